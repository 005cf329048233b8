"""Do the inputs at work still look like those that were counted? If not, the gate is closed.

The surprise of each input, by the linear rules of the mined data, is ranked among those of the
gate's stream and of all inputs watched before; a conformal martingale bets against the ranks. As
long as the inputs are exchangeable with the stream it ever fires with probability at most its
alpha. Its state is ``watch.json`` beside the ledger.
"""

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
from jaxtyping import Float64

from .. import _proving
from ..kernel import UserError, read_regular_file
from ..kernel.gate import StreamEntry, answers
from ..kernel.gate._exchangeability import ConformalMartingale
from ._forward import Activations
from ._gate import Gate
from ._surprise import LinearRules

WATCH_FILE: Final = "watch.json"


class WatchError(UserError):
    """A watch that cannot go on: of other data, or of a gate with nothing to compare with."""


class Watched(NamedTuple):
    """Where the watch stands."""

    seen: int
    """Inputs watched so far."""
    reference: int
    """Inputs of the stream that they are ranked among."""
    wealth: float
    """Evidence against exchangeability; at 1/alpha it fires."""
    fired: bool


def watch(
    gate: Gate, mined: Activations, fresh: Activations, alpha: Fraction = Fraction(1, 1000)
) -> Watched:
    """Rank inputs, in the order in which they came, and close the gate if the test fires.

    mined: what the score is learnt from; the same in every call. fresh: inputs that were not
    watched yet. ``gate`` is open for writing. Raises WatchError for a watch that was begun with
    other mined data, another alpha or another stream. Cost: a forward pass, and tens of
    microseconds an input.
    """
    stream, score, cut = _stream(gate), _fitted(gate, mined), gate.sites.cut_slice
    about = hashlib.sha256(mined.h.tobytes() + stream.h.tobytes()).hexdigest()
    path = gate.ledger.path / WATCH_FILE
    reference = _scores(score, stream, cut)
    test = _resumed(path, about, alpha) or ConformalMartingale(alpha, reference.tolist())
    for value in _scores(score, fresh, cut).tolist():
        test.update(value)
    state = {"about": about, "test": test.to_json()}
    _proving.write_file(path, json.dumps(state).encode() + b"\n", force=True)
    if test.fired and gate.closed is None:
        gate.close(_reason(test))
    return Watched(test.seen, len(reference), float(test.wealth), test.fired)


@final
class LiveWatch:
    """The test in memory, for as long as a service runs; the ledger stays as it is."""

    def __init__(
        self,
        gate: Gate,
        mined: Activations,
        alpha: Fraction = Fraction(1, 1000),
        say: Callable[[str], None] | None = None,
    ) -> None:
        """As ``watch``, before the first input. say: called once, with the reason, if it fires."""
        self._score, self._cut, self._say = _fitted(gate, mined), gate.sites.cut_slice, say
        reference = _scores(self._score, _stream(gate), self._cut).tolist()
        self._test = ConformalMartingale(alpha, reference)
        self._reference = len(reference)
        self.reason: str | None = None
        """Why everything is refused, once it has fired."""

    def see(self, seen: Activations) -> str | None:
        """Rank inputs that have arrived; the reason to refuse them, these ones too, if it fires."""
        for value in _scores(self._score, seen, self._cut).tolist() if self.reason is None else ():
            self._test.update(value)
            if self._test.fired:
                self.reason = _reason(self._test)
                if self._say is not None:
                    self._say(self.reason)
                break
        return self.reason

    def state(self) -> Watched:
        """Where it stands."""
        test = self._test
        return Watched(test.seen, self._reference, float(test.wealth), test.fired)


def _fitted(gate: Gate, mined: Activations) -> LinearRules:
    if not len(_stream(gate).h):
        raise WatchError("the gate has counted no data that inputs could be compared with")
    classes = np.maximum(answers(mined.outputs), 0)
    return LinearRules().fit(mined.h[:, gate.sites.cut_slice], classes)


def _reason(test: ConformalMartingale) -> str:
    return (
        f"after {test.seen} inputs the test of exchangeability fired at alpha {test.alpha}: they "
        "are not like the data that were counted"
    )


def _stream(gate: Gate) -> Activations:
    named = [entry.shard for _, entry in gate.history.living(StreamEntry)]
    shards = [shard for name in named if (shard := gate.ledger.shards.get(name)) is not None]
    none = Activations(np.zeros((0, gate.sites.size)), np.zeros((0, gate.network.outputs)))
    if not shards:
        return none
    return Activations(
        *(np.concatenate([shard.arrays[name] for shard in shards]) for name in ("h", "outputs"))
    )


def _scores(score: LinearRules, seen: Activations, cut: slice) -> Float64[np.ndarray, " n"]:
    """Surprises; what is not finite is more surprising than anything."""
    h, classes = seen.h[:, cut], np.maximum(answers(seen.outputs), 0)
    usable = np.isfinite(h).all(axis=1)
    found = np.full(len(h), np.inf)
    if usable.any():
        with np.errstate(over="ignore", invalid="ignore"):
            found[usable] = score.surprise(h[usable], classes[usable])
    return np.where(np.isnan(found), np.inf, found)


def _resumed(path: Path, about: str, alpha: Fraction) -> ConformalMartingale | None:
    if not path.exists():
        return None
    try:
        state: Any = json.loads(read_regular_file(path))
        before, text = state["about"], state["test"]
    except (ValueError, KeyError, TypeError):
        raise WatchError(f"{path} is no state of a watch: delete it to begin anew") from None
    test = ConformalMartingale.from_json(text)
    if before != about or test.alpha != alpha:
        raise WatchError(
            f"{path} is of a watch with other mined data, another stream or another alpha "
            f"({test.alpha}): go on with those, or delete it to begin anew"
        )
    return test
