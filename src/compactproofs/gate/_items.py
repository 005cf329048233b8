"""Entries with their arrays, as ``Ledger.append`` takes them, built from what a user has."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64

from ..kernel import UserError
from ..kernel.gate import (
    BAD,
    Cell,
    CellEntry,
    Entry,
    History,
    Opened,
    RecordEntry,
    RegionEntry,
    RegionWitness,
    ReluNetwork,
    RuleEntry,
    Sites,
    StreamEntry,
    answers,
    digest_of,
    fingerprints,
)
from ..kernel.gate._alpha import AlphaAccount
from ._exact import Exact, exact
from ._forward import Activations
from ._ledger import Arrays, shard_name

Labels = Int[np.ndarray, " n"] | Sequence[int] | None
Item = tuple[Entry, Arrays | None]

_RANGES = {
    "alpha": "give 0 < alpha < 1",
    "tau": "give 0 < tau <= 1",
    "rho": "give 0 <= rho < 1",
    "delta": "give 0 < delta < 1",
    "eps_act": "give a finite number that is not negative",
}


def opened(
    network: ReluNetwork,
    sites: Sites,
    alpha: Exact,
    tau: Exact,
    rho: Exact | None,
    delta: Exact | None,
    eps_act: float,
) -> Opened:
    """The first entry; raises UserError for a number out of range, ModelError for odd sites."""
    sites.require_fit(network)
    eps = float(eps_act) if 0 <= eps_act < 2.0**1000 else -1.0
    entry = Opened(
        network.sha256,
        sites,
        exact(alpha, "alpha"),
        exact(tau, "tau"),
        None if rho is None else exact(rho, "rho"),
        None if delta is None else exact(delta, "delta"),
        Fraction(eps),
    )
    for name, value, fine in (
        ("alpha", alpha, 0 < entry.alpha < 1),
        ("tau", tau, 0 < entry.tau <= 1),
        ("rho", rho, entry.rho is None or 0 <= entry.rho < 1),
        ("delta", delta, entry.delta is None or 0 < entry.delta < 1),
        ("eps_act", eps_act, entry.eps_act >= 0),
    ):
        if not fine:
            raise UserError(f"{name} = {value} is out of range: {_RANGES[name]}")
    return entry


def require_own(path: Path, entry: Opened, network: ReluNetwork) -> None:
    """Refuse to add about another network than the ledger's; raises UserError."""
    if entry.model != network.sha256:
        raise UserError(
            f"{path} is about the network {entry.model[:12]}, this is {network.sha256[:12]}: open "
            "the gate with its own"
        )


def record_item(
    network: ReluNetwork, sites: Sites, data: Activations, labels: Labels, signer: str
) -> Item:
    """A record of inputs, labelled by the model's answers unless labels are given."""
    signed = answers(data.outputs) if labels is None else _labels(labels, len(data.h))
    if not len(data.h) or not np.isfinite(data.h).all() or not signer:
        raise UserError(
            f"a record of {len(data.h)} inputs by {signer!r}: give at least one, with finite "
            "activations, and a signer"
        )
    if (signed < 0).any() or (signed >= network.outputs).any():
        raise UserError(
            f"label {signed.min() if (signed < 0).any() else signed.max()} is none of "
            f"{network.outputs} outputs: pass the labels that you vouch for"
        )
    arrays = {"h": data.h, "labels": signed}
    digest = digest_of(fingerprints(network.sha256, sites.sha256, data.h))
    return RecordEntry(shard_name(arrays), len(data.h), digest, signer), arrays


def stream_item(network: ReluNetwork, data: Activations, labels: Labels, start: int) -> Item:
    """Data of the stream; -1 is no label."""
    count = len(data.h)
    given = np.full(count, -1) if labels is None else _labels(labels, count)
    if not count or (given < -1).any() or (given >= network.outputs).any():
        raise UserError(
            f"{count} data with labels {sorted(set(given.tolist()))[:12]}: give at least one, with "
            f"labels from 0 to {network.outputs - 1}, or -1 for none"
        )
    if np.isnan(data.h).any() or np.isnan(data.outputs).any():
        raise UserError(f"{count} data hold NaN: leave such inputs out, the gate refuses them")
    arrays = {"h": data.h, "outputs": data.outputs, "labels": given}
    return StreamEntry(shard_name(arrays), start, count), arrays


def cell_item(cell: Cell, parts: Sequence[str]) -> Item:
    """A cell; an event by itself unless it has parts."""
    arrays = cell.to_arrays()
    return CellEntry(cell.id, shard_name(arrays), tuple(parts) or (cell.id,)), arrays


def region_item(cell: Cell, witness: RegionWitness | None) -> Item:
    """The certificate of a cell."""
    if witness is None:
        return RegionEntry(cell.id, None), None
    arrays = witness._asdict()
    return RegionEntry(cell.id, shard_name(arrays)), arrays


def share_of(history: History, alpha: Exact | None) -> Fraction:
    """What the next proposal is charged: ``alpha``, or the next share of the account.

    Raises UserError if that much is not left.
    """
    total = history.opened.alpha
    schedule = AlphaAccount(total).amount(history.proposals + 1)
    share, spent = schedule if alpha is None else exact(alpha, "alpha"), history.spent
    if not 0 < share or spent + share > total:
        raise UserError(
            f"alpha = {float(share):.3g}, but {float(spent):.3g} of {float(total):.3g} is "
            "spent: give less, or create a gate with a larger alpha"
        )
    return share


def rule_entry(
    kind: str,
    given: tuple[str, ...],
    then: tuple[str, ...],
    predicted: tuple[Exact | None, Exact | None],
    bits: Exact,
    proposer: str,
    depends_on: tuple[str, ...],
    share: Fraction,
    born: int,
    take: int | None,
) -> RuleEntry:
    """A frozen rule; raises UserError if there is nothing to count in it."""
    low, high = (p if p is None else exact(p, "predicted") for p in predicted)
    if not set(then) - set(given) or BAD in given or (take is not None and take < 1):
        raise UserError(
            f"a rule from {list(given)} to {list(then)} counted on {take} data: name at least "
            f"one more cell or {BAD!r} as consequent, only cells as antecedent, and take 1"
        )
    cost = exact(bits, "bits")
    return RuleEntry(
        kind, given, then, share, born, take, low, high, cost, proposer, depends_on
    )  # fmt: skip


def _labels(labels: Int[np.ndarray, " n"] | Sequence[int], count: int) -> Int64[np.ndarray, " n"]:
    given = np.asarray(labels)
    if given.shape != (count,) or given.dtype.kind not in "iu":
        raise UserError(
            f"labels are {given.dtype} {given.shape}: pass {count} integers, one an input"
        )
    return given.astype(np.int64)
