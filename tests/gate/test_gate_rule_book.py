"""A gate as the rule book of the discovery loop: from an empty ledger to explained cells."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from compactproofs.gate import Gate, activations
from compactproofs.gate._events import Variable, site_signs
from compactproofs.gate._explain import Budget, explain, take_mine
from compactproofs.gate._explanation import explained_cells
from compactproofs.gate._gate_book import GateBook
from compactproofs.gate._mined_network import layers_below, variables_of
from compactproofs.gate._rule_book import MemoryBook, RuleBook
from compactproofs.gate._source import Batch, Source
from compactproofs.gate.propose import Proposal
from compactproofs.kernel.gate import ReluLayer, ReluNetwork, SiteGroup, Sites

ALPHA = Fraction(1, 100)


def _majority(rng: np.random.Generator) -> tuple[ReluNetwork, Sites, np.ndarray]:
    """7 bits; one unit counts ones, one zeros, two read three bits each."""
    W = np.zeros((7, 4))
    W[:, 0], W[:, 1], W[:3, 2], W[2:5, 3] = 1.0, -1.0, 1.0, 1.0
    b = np.array([-3.5, 3.5, -1.5, -1.5])
    out = np.array([[-1.0, 1.0], [1.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    net = ReluNetwork((ReluLayer(W, b, False), ReluLayer(out, np.zeros(2), True)))
    sites = Sites((SiteGroup("pre1", "pre", 4),), "pre1", 1)
    return net, sites, rng.integers(0, 2, (9000, 7)).astype(np.float64)


def _implies(first: Variable, second: Variable) -> Proposal:
    given, then = (first.events[1],), (second.events[1],)
    return Proposal("joint", given, then, (0.8, 0.95), 0.1, 10.0, 50.0)


def test_from_an_empty_ledger_to_explained_cells(tmp_path: Path):
    net, sites, x = _majority(np.random.default_rng(6))
    h, outputs = activations(net, sites, x)
    labels = (x.sum(axis=1) > 3.5).astype(np.int64)
    assert np.array_equal(outputs.argmax(axis=1), labels)
    source = Source.of(h, outputs, labels)
    budget = Budget(mine=1000, shard=1000, rounds=2, proposals=6, draws=1000, order=3)
    with Gate.create(tmp_path / "gate", net, sites, alpha=ALPHA, rho="1/10") as gate:
        book = GateBook(gate)
        assert isinstance(book, RuleBook) and isinstance(MemoryBook(ALPHA), RuleBook)
        assert book.statements() == []
        mined = take_mine(source, budget)
        variables: list[Variable] = variables_of(sites, mined)
        found = explain(
            book, source, variables, mined, budget, below=layers_below(net, sites, x[:1000])
        )
        cells = explained_cells(found, book)
        assert gate.closed is None
        assert len(cells) >= 2 and cells[0].lower > 0.1
        assert found.always_shorter
        assert 0 < book.spent <= ALPHA
        before = sorted(book.statements())
    with Gate.open(tmp_path / "gate", net) as again:  # the kernel recomputes every interval
        assert again.closed is None
        assert sorted(GateBook(again).statements()) == before


def test_a_gate_counts_nothing_older_than_the_rule(tmp_path: Path):
    net, sites, x = _majority(np.random.default_rng(7))
    h, outputs = activations(net, sites, x[:300])
    variables = site_signs("pre1", 0, 4, range(4))
    with Gate.create(tmp_path / "gate", net, sites, alpha=ALPHA, rho="1/10") as gate:
        book = GateBook(gate)
        book.observe(Batch(h[:200], outputs[:200], np.full(200, -1)))
        frozen = book.freeze(_implies(variables[0], variables[2]), 50)
        assert frozen.born == 200
        assert book.count(frozen) is None
        book.observe(Batch(h[200:], outputs[200:], np.full(100, -1)))
        interval = book.count(frozen)
        assert interval is not None
        given = h[200:250, 0] > 0
        assert (interval.k, interval.n) == (int((given & (h[200:250, 2] > 0)).sum()), given.sum())
        book.refuse(frozen, "not needed")
        assert book.statements() == []
        assert book.spent == frozen.alpha
