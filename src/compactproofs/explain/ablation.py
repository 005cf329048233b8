"""Which parts of the explanation matter: each circuit replaced, and what is left of the accuracy.

*zero*: the circuit is 0 (A zero: attention by position alone). *mean*: A its mean over all
entries, B its mean over positions, F its mean over tokens, G over positions, H over queries.
*resample*: the circuit's row index comes from an independent sequence. These three are sampled
estimates with a 95 % interval. *pessimal*: the circuit is replaced by its worst case, and what
remains is **proved**: the integer tables are widened until they enclose the hull of the circuit
over its index, the kernel verifies that they still enclose the model, and a theorem that counts
from them has used nothing else about the circuit. The bound lost says what the proof owes to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from .._proving import prove
from ..estimate import clopper_pearson
from ..kernel import IntegerTables, Model, Task, Tick, integer_tables, no_tick, require_fit
from .circuits import NAMES, Circuits, circuits

KINDS = ("zero", "mean", "resample", "pessimal")
_BATCH = 20_000


@dataclass(frozen=True)
class Ablation:
    """One circuit, one way to replace it, what is left."""

    component: str
    """A circuit, or "none"."""
    kind: str
    accuracy: float
    """An estimate, or the proved bound if ``proved``."""
    low: float
    high: float
    """Ends of the 95 % interval; the bound itself if ``proved``."""
    loss: float | None
    """Mean cross-entropy in nats, where estimated."""
    proved: bool


def ablations(
    model: Model, task: Task, samples: int = 20_000, seed: int = 0, tick: Tick = no_tick
) -> Iterator[Ablation]:
    """Every circuit ablated in every way, the untouched model first.

    Cost: O(samples k x) for each estimate, the theorem ``additive`` for each proof.
    """
    require_fit(task, model)
    parts = circuits(model)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(task.v, size=(samples, task.k))
    labels = task.labels(tokens)
    total = 2 + len(NAMES) * len(KINDS)
    tick(0, total)
    yield _estimated("none", "none", _logits(parts, tokens), labels)
    honest = integer_tables(model)
    tick(1, total)
    bound = prove(model, task, tables=honest).claim.bound
    yield Ablation("none", "pessimal", float(bound), float(bound), float(bound), None, True)
    done = 2
    for name in NAMES:
        for kind, changed in (("zero", _zeroed(parts, name)), ("mean", _averaged(parts, name))):
            tick(done, total)
            yield _estimated(name, kind, _logits(changed, tokens), labels)
            done += 1
        tick(done, total)
        other = rng.integers(task.v, size=(samples, task.k))
        logits = _logits(parts, tokens, other, name, rng)
        yield _estimated(name, "resample", logits, labels)
        tick(done + 1, total)
        proved = prove(model, task, tables=pessimised(honest, name))
        left = float(proved.claim.bound)
        yield Ablation(name, "pessimal", left, left, left, None, True)
        done += 2


def _zeroed(parts: Circuits, name: str) -> Circuits:
    fields = dict(vars(parts))
    fields[name] = np.zeros_like(fields[name])
    return Circuits(**fields)


def _averaged(parts: Circuits, name: str) -> Circuits:
    fields = dict(vars(parts))
    axis = {"A": None, "B": 1}.get(name, 0)
    mean = fields[name].mean(axis=axis, keepdims=True)
    fields[name] = np.ascontiguousarray(np.broadcast_to(mean, fields[name].shape))
    return Circuits(**fields)


def _logits(
    parts: Circuits,
    tokens: Int64[np.ndarray, "n k"],
    other: Int64[np.ndarray, "n k"] | None = None,
    resampled: str = "",
    rng: np.random.Generator | None = None,
) -> Float64[np.ndarray, "n x"]:
    """Logits, the circuit ``resampled`` indexed by the sequences ``other``."""
    found: list[Float64[np.ndarray, "n x"]] = []
    n, k = tokens.shape
    for start in range(0, n, _BATCH):
        batch = tokens[start : start + _BATCH]
        swapped = batch if other is None else other[start : start + _BATCH]
        places = np.broadcast_to(np.arange(k), batch.shape)
        moved = places
        if rng is not None and resampled in ("B", "G"):
            moved = rng.integers(k, size=batch.shape)

        def index(name: str) -> Int64[np.ndarray, "n k"]:
            return swapped if name == resampled else batch  # noqa: B023

        query = batch[:, -1]
        scores = parts.A[query[:, None], index("A")]
        scores = scores + parts.B[query[:, None], moved if resampled == "B" else places]
        weight = np.exp(scores - scores.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        logits = parts.H[index("H")[:, -1]].copy()
        for i in range(k):
            positions = moved[:, i] if resampled == "G" else places[:, i]
            logits += weight[:, i, None] * (parts.F[index("F")[:, i]] + parts.G[positions])
        found.append(logits)
    return np.concatenate(found)


def _estimated(
    component: str,
    kind: str,
    logits: Float64[np.ndarray, "n x"],
    label: Int64[np.ndarray, " n"],
) -> Ablation:
    rows = np.arange(len(logits))
    own = logits[rows, label].copy()
    peak = logits.max(axis=1)
    loss = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1)) - own
    logits[rows, label] = -np.inf
    right = int((own > logits.max(axis=1)).sum())
    low, high = clopper_pearson(right, len(rows), 0.95)
    return Ablation(component, kind, right / len(rows), low, high, float(loss.mean()), False)


def pessimised(tables: IntegerTables, name: str) -> IntegerTables:
    """Tables that enclose what ``tables`` do and every other value of one circuit's row index.

    A: the weights of a query at a position are those of any key. B: those at any position. F: the
    values at a position are those of any token. G: those at any position. H: any query's.
    """
    fields = tables._asdict()
    if name == "H":
        return _hull(fields, "direct", 0)
    if name in ("F", "G"):
        return _hull(fields, "value", 1 if name == "F" else 0)
    axis = 2 if name == "A" else 0
    exponent = tables.weight_exponent.astype(np.int64)
    top = exponent.max(axis=axis, keepdims=True)
    by = np.minimum(top - exponent, 62)
    low = (tables.weight_low.astype(np.int64) >> by).min(axis=axis, keepdims=True)
    high = (-((-tables.weight_high.astype(np.int64)) >> by)).max(axis=axis, keepdims=True)
    shape = exponent.shape
    return IntegerTables(
        **fields
        | {
            "weight_low": np.broadcast_to(low, shape).astype(np.int32),
            "weight_high": np.broadcast_to(high, shape).astype(np.int32),
            "weight_exponent": np.broadcast_to(top, shape).astype(np.int32),
        }
    )


def _hull(fields: dict[str, np.ndarray], table: str, axis: int) -> IntegerTables:
    low, high = fields[f"{table}_low"], fields[f"{table}_high"]
    return IntegerTables(
        **fields
        | {
            f"{table}_low": np.broadcast_to(low.min(axis=axis, keepdims=True), low.shape).copy(),
            f"{table}_high": np.broadcast_to(high.max(axis=axis, keepdims=True), high.shape).copy(),
        }
    )
