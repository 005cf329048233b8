"""What was generalised, in the ledger: a frozen rule counted on later data, notes and regions."""

from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float64

from ..kernel import UserError
from ..kernel.gate import Cell, NoteEntry, ReluNetwork, RuleEntry, Sites
from ._forward import Activations
from ._gate import Gate
from ._generalise import ConstantRule, Generalisation, generalise, site_range
from ._items import Item, Labels, share_of
from ._structure_notes import STRUCTURE_TOPIC, structure_note

_WIDEST: Final = float(np.finfo(np.float32).max)


class Stored(NamedTuple):
    """What was added, and what was found."""

    found: Generalisation
    """Its constant is what the ledger's interval says"""
    rule: str
    """The entry that froze the range before the fresh data arrived"""
    notes: int
    regions: int
    """Wide cells that were certified, beside those that were there"""


def generalise_and_store(
    gate: Gate,
    site: int,
    lab: Float64[np.ndarray, "m s"],
    fresh: Activations,
    labels: Labels = None,
    alpha: Fraction | None = None,
) -> Stored:
    """Generalise a site (see ``generalise``) on all certified cells, and write down what holds.

    The rule that the site is in the range of ``lab`` is frozen, then ``fresh`` is observed, then it
    is counted. alpha: of the rule; by default the next share of the account. Dead, stable and
    irrelevant are notes that fall with the certificates; where any value of the range does, the
    wide cell becomes a certified region. Raises UserError if the gate is closed, if fresh data
    arrived before or do not fit, and if alpha is spent; nothing is added then.
    """
    if gate.closed is not None:
        raise UserError(f"{gate.ledger.path}: nothing is stored, the gate is closed: {gate.closed}")
    gate.require_own_network()
    low, high = site_range(gate.sites, site, lab)
    site_range(gate.sites, site, fresh.h, "fresh")
    gate.require_new(fresh.h, "fresh data")
    share = share_of(gate.history, alpha)
    obligations = gate.admission.obligations
    entries = {name: found.entry for name, found in obligations.certificates.items()}
    cells = {name: obligations.cells[name] for name in entries}
    found = generalise(gate.network, gate.sites, cells, site, lab, None, Fraction(1))
    inside = gate.add_cell(_range_cell(gate.network, gate.sites, site, low, high))
    rule = gate.add_rule(
        "constant", (), (inside,), take=len(fresh.h), alpha=share, proposer="generalise"
    )
    gate.observe(fresh, labels)
    interval = gate.count(rule)
    frozen = gate.history.lines[gate.history.number(rule) or 0].entry
    if interval is None or not isinstance(frozen, RuleEntry):
        raise UserError(f"rule {rule[:12]} was frozen, and could not be counted")
    outside, at_most = interval.n - interval.k, 1 - interval.low
    constant = ConstantRule(low, high, outside, interval.n, at_most, frozen.alpha)
    before = len(entries)
    _add_wide(gate, found, entries)
    notes = _notes(gate, found, entries)
    gate.extend(notes)
    return Stored(found._replace(constant=constant), rule, len(notes), len(entries) - before)


def _range_cell(network: ReluNetwork, sites: Sites, site: int, low: float, high: float) -> Cell:
    """All finite activations with the site in its range: an event, that nothing is proved of."""
    ends = np.full(sites.size, -np.inf), np.full(sites.size, np.inf)
    cut = sites.cut_slice
    ends[0][cut], ends[1][cut] = -_WIDEST, _WIDEST
    ends[0][site], ends[1][site] = low, high
    none = np.zeros(0)
    pattern = np.zeros(sites.pattern_size(network), dtype=np.int8)
    return Cell(*ends, np.zeros((0, sites.size)), none, none, pattern, 0)


def _add_wide(gate: Gate, found: Generalisation, entries: dict[str, str]) -> None:
    """Certify the wide cells that are new, and put their certificates into ``entries``."""
    facts = {fact.wide.id: fact for fact in found.irrelevant.values()}
    new = [fact for name, fact in facts.items() if name not in entries]
    gate.add_regions((fact.wide, fact.certified.witness) for fact in new)
    certificates = gate.admission.obligations.certificates
    entries.update({fact.wide.id: certificates[fact.wide.id].entry for fact in new})


def _notes(gate: Gate, found: Generalisation, entries: dict[str, str]) -> list[Item]:
    there = {note.text for _, note in gate.history.living(NoteEntry)}
    sites = [gate.sites.name(found.site)]
    kinds = (("dead", found.dead), ("stable", found.stable))
    told: list[tuple[str, tuple[str, ...]]] = [
        (structure_note(cell, kind, sites=sites), (entries[cell],))
        for kind, cells in kinds
        for cell in cells
    ]
    for name, fact in found.irrelevant.items():
        text = structure_note(name, "irrelevant", sites=sites, wide=fact.wide.id)
        told.append((text, tuple(dict.fromkeys((entries[name], entries[fact.wide.id])))))
    return [
        (NoteEntry(STRUCTURE_TOPIC, text, needs), None) for text, needs in told if text not in there
    ]
