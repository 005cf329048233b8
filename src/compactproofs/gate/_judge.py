"""A gate and its network for ``serve``: inputs in, verdicts and answers out."""

import warnings
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel.gate import ReluNetwork, Verdict, answers
from ._as_json import status_json
from ._gate import Gate
from ._ledger import LedgerWarning
from ._watch import LiveWatch


@final
class GateJudge:
    """A gate as it was when this was made; everything is verified then."""

    def __init__(self, path: Path, network: ReluNetwork, watch: LiveWatch | None = None) -> None:
        """Raises as ``Gate.open``; a closed gate is served, and refuses everything.

        watch: sees every input before it is judged, and once it has fired none is admitted.
        """
        self._watch = watch
        with warnings.catch_warnings():
            # A writer may be at work: the ledger is then what is whole of it.
            warnings.simplefilter("ignore", LedgerWarning)
            self._gate = Gate.open(path, network)
        self._status = status_json(self._gate.status())

    @property
    def inputs(self) -> int:
        """Numbers of an input."""
        return self._gate.network.widths[0]

    def judge(self, x: Float64[np.ndarray, "n d"]) -> tuple[list[Verdict], Int64[np.ndarray, " n"]]:
        """Of each input the verdict and the network's answer, -1 for a tie."""
        seen = self._gate.activations(x)
        reason = None if self._watch is None else self._watch.see(seen)
        if reason is not None:
            refusal = Verdict(None, {}, (f"(6) the service is closed: {reason}",))
            return [refusal] * len(x), answers(seen.outputs)
        return list(self._gate.admit_batch(seen)), answers(seen.outputs)

    def status(self) -> dict[str, Any]:
        """The gate's, and what it is about."""
        about = {"network": self._gate.network.sha256, "head": self._gate.ledger.lines[-1].id}
        if self._watch is None:
            return about | self._status
        closed = {"closed": self._status["closed"] or self._watch.reason}
        return about | self._status | closed | {"watch": self._watch.state()._asdict()}


def head_of(path: Path) -> tuple[int, int, int]:
    """What differs whenever the ledger has changed: its file's identity, size and time."""
    found = (path / "ledger.jsonl").stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
