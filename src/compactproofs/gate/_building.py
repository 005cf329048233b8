"""Building a gate in one go: search cells, freeze what to measure, then measure on fresh data.

Everything that will be counted is frozen before the first fresh datum is looked at: the mass (and,
with rho, the risk) of every cell, and with delta the family of all cells. The cells of the largest
evidence are its first group: the network is surest there.
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel import OptionError, Tick, UserError, no_tick
from ..kernel.gate import BAD, RuleEntry
from ._forward import Activations
from ._gate import Gate
from ._gate_book import GateBook
from ._regions import RegionSettings, search_regions
from ._rule_book import Frozen
from ._source import Batch, Source
from .propose._proposal import Proposal

EXPLANATION: Final = "explanation"
"""The topic of the note that says how the discovery loop went."""
_DISCOVERY: Final = Fraction(1, 10)
"""Of what is left of alpha, if there are rounds of discovery."""
_MOST_UNEXPLAINED: Final = 20


class BuildError(UserError):
    """Data or settings that no gate can be built with."""


@dataclass(frozen=True)
class BuildSettings:
    """How many cells, and how much is explained before they are measured.

    margins: what the evidence of a group of cells must show, most trusted first; cells: of each
    group; clusters, widen: see ``RegionSettings``; rounds: of the discovery loop, on shards of the
    fresh data; proposals: of a round; seed: of the searches. Raises BuildError.
    """

    margins: tuple[float, ...] = (1.0, 0.25)
    cells: int = 200
    clusters: tuple[int, ...] = RegionSettings.clusters
    widen: tuple[float, ...] = RegionSettings.widen
    rounds: int = 3
    proposals: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what builds nothing."""
        falling = all(a > b for a, b in zip(self.margins[:-1], self.margins[1:], strict=True))
        if not self.margins or not falling or self.margins[-1] <= 0:
            raise BuildError(f"margins {self.margins}: pass positive ones, the largest first")
        if self.rounds < 0 or self.proposals < 1:
            raise BuildError(
                f"{self.rounds} rounds of {self.proposals} proposals: pass 0 or more rounds of at "
                "least 1"
            )


class Built(NamedTuple):
    """What came of it."""

    groups: tuple[int, ...]
    """Cells of each group."""
    admitting: int
    """Cells that have all their warrants."""
    chosen: int | None
    """Groups that meet delta; None in a gate without."""
    rules: int
    """Rules of the discovery loop that were counted and accepted."""
    fresh: int
    """Data counted."""


class Labelled(NamedTuple):
    """Inputs, and what the answers should be."""

    inputs: Float64[np.ndarray, "n a"] | Activations
    labels: Int64[np.ndarray, " n"]


def build_gate(
    gate: Gate,
    mined: Labelled,
    fresh: Labelled,
    settings: BuildSettings | None = None,
    tick: Tick = no_tick,
) -> Built:
    """Search cells in ``mined``, and measure them on ``fresh``, which nobody has looked at.

    ``fresh`` must be drawn like the data that the gate will judge, and not be what the network was
    trained on. ``gate`` is open for writing. Raises BuildError, and as the searches do. Cost: a
    search for each margin, and a replay of every certificate.
    """
    settings = settings or BuildSettings()
    if gate.closed is not None:
        raise BuildError(f"the gate is closed: {gate.closed}")
    if gate.opened.rho is None and gate.opened.delta is None:
        raise BuildError("this gate has neither rho nor delta: create one that has")
    left = gate.opened.alpha - gate.history.spent
    if left <= 0:
        raise BuildError("alpha is spent, so nothing can be measured: create another gate")
    seen, new = gate.activations(mined.inputs), gate.activations(fresh.inputs)
    if len(new.h) < max(settings.rounds, 1):
        raise BuildError(f"{len(new.h)} fresh data for {settings.rounds} rounds: give more")
    gate.require_new(new.h, "fresh data")
    groups = _groups(gate, seen, mined.labels, settings, tick)
    names = list(dict.fromkeys(name for group in groups for name in group))
    rules = left * _DISCOVERY if settings.rounds else Fraction(0)
    family = _freeze(gate, groups, names, len(new.h), left - rules)
    accepted = 0
    source = Source.of(new.h, new.outputs, fresh.labels)
    if settings.rounds:
        mining = Batch(seen.h, seen.outputs, mined.labels)
        accepted = _discover(gate, mining, source, len(new.h), settings, rules)
    rest = source.take(len(new.h))
    if len(rest.h):
        gate.observe(Activations(rest.h, rest.outputs), rest.labels, repeats=True)
    gate.count_all()
    chosen = None if family is None else gate.calibrate(family)
    if gate.closed is not None:
        raise BuildError(f"the gate is closed by what was measured: {gate.closed}")
    admitting = sum(bool(one.warrants) for one in gate.admission.standing.values())
    return Built(tuple(map(len, groups)), admitting, chosen, accepted, len(new.h))


def _groups(
    gate: Gate,
    seen: Activations,
    labels: Int64[np.ndarray, " n"],
    settings: BuildSettings,
    tick: Tick,
) -> list[list[str]]:
    base = RegionSettings(
        clusters=settings.clusters, widen=settings.widen, most=settings.cells, seed=settings.seed
    )
    groups = []
    parts = len(settings.margins)
    for number, margin in enumerate(settings.margins):

        def part(done: int, of: int, number: int = number) -> None:
            tick(number * of + done, parts * of)

        chosen = replace(base, margin=margin)
        found = search_regions(gate.network, gate.sites, seen.h, labels, chosen, part)
        groups.append(gate.add_regions(found))
    if not any(groups):
        raise BuildError("no cell was found: give more data to search in, or smaller margins")
    return groups


def _freeze(
    gate: Gate, groups: list[list[str]], names: list[str], take: int, left: Fraction
) -> str | None:
    """What will be counted on the next ``take`` data; equal shares. The family, if there is one."""
    each = left / (2 * len(names))
    with_risk, with_family = gate.opened.rho is not None, gate.opened.delta is not None
    rules = [_rule("mass", (), name, each, gate.position, take) for name in names]
    if with_risk:
        share = each / 2 if with_family else each
        rules += [_rule("risk", (name,), BAD, share, gate.position, take) for name in names]
    # One step: every entry by itself would be flushed to disk by itself.
    gate.extend([(rule, None) for rule in rules])
    if not with_family:
        return None
    return gate.add_family(groups, take, alpha=left / (4 if with_risk else 2))


def _rule(
    kind: str, given: tuple[str, ...], then: str, alpha: Fraction, born: int, take: int
) -> RuleEntry:
    none = Fraction(0)
    return RuleEntry(kind, given, (then,), alpha, born, take, None, None, none, "", ())


class _EqualShares(GateBook):
    """Rules that each cost the same: there are only so many of them."""

    def __init__(self, gate: Gate, share: Fraction) -> None:
        super().__init__(gate)
        self._share = share

    def freeze(self, proposal: Proposal, take: int | None) -> Frozen:
        rule = self.gate.add_rule(
            proposal.kind,
            [self.name_of(event) for event in proposal.given],
            [self.name_of(event) for event in proposal.then],
            take=take,
            alpha=self._share,
            predicted=proposal.predicted,
            bits=round(max(proposal.bits, 0.0), 3),
            proposer=f"propose/{proposal.kind}",
        )
        entry = self.gate.history.lines[-1].entry
        if not isinstance(entry, RuleEntry):
            raise OptionError("a rule was frozen, and something else is the last entry")
        return Frozen(rule, proposal, entry.alpha, entry.born, take)


def _discover(
    gate: Gate, mining: Batch, source: Source, n: int, settings: BuildSettings, alpha: Fraction
) -> int:
    """Run the discovery loop and write down how it went; the number of counted rules accepted."""
    from ._explain import Budget, explain
    from ._mined_network import variables_of
    from .propose import measured_proposers
    from .propose._structure import structure_proposers

    # A proposal may bring a second rule, about how often its condition holds.
    share = alpha / (2 * settings.rounds * settings.proposals)
    budget = Budget(
        mine=len(mining.h),
        shard=n // settings.rounds,
        rounds=settings.rounds,
        proposals=settings.proposals,
        seed=settings.seed,
    )
    book = _EqualShares(gate, share)
    proposers = [*structure_proposers(gate), *measured_proposers()]
    variables = variables_of(gate.sites, mining)
    found = explain(book, source, variables, mining, budget, proposers=proposers)
    text: dict[str, Any] = {
        "steps": [step.row() for step in found.steps],
        "unexplained": [
            [" and ".join(event.name for event in found.state.events(one.places)), one.gain]
            for one in found.unexplained[:_MOST_UNEXPLAINED]
        ],
        "bits": found.bits,
    }
    gate.note(EXPLANATION, json.dumps(text))
    return sum(step.frozen is not None for step in found.accepted)
