import json
from pathlib import Path

import numpy as np

from compactproofs.gate import Gate
from compactproofs.gate._explain import start_from
from compactproofs.gate._mined_network import variables_of
from compactproofs.gate._source import Batch
from compactproofs.gate._structure_notes import STRUCTURE_TOPIC, structure_counts
from compactproofs.gate.propose import Proposer
from compactproofs.gate.propose._structure import STRUCTURE, Structure, proved_proposers
from compactproofs.kernel.gate import Cell, NoteEntry, ReluLayer, ReluNetwork, SiteGroup, Sites

# Of the four units one is dead on the cell, two are stable and the same, one hardly matters.
NETWORK = ReluNetwork(
    (
        ReluLayer(np.eye(2), np.zeros(2), False),
        ReluLayer(
            np.array([[1.0, 1.0, -1.0, 1.0], [0.0, 0.0, 0.0, -1.0]]),
            np.array([1.0, 1.0, 0.0, -1.5]),
            True,
        ),
        ReluLayer(
            np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0**-10]]), np.zeros(2), True
        ),
    )
)
SITES = Sites((SiteGroup("pre1", "pre", 2),), "pre1", 1)
CELL = Cell(
    np.array([1.0, 0.0]),
    np.array([2.0, 1.0]),
    np.zeros((0, 2)),
    np.zeros(0),
    np.zeros(0),
    np.zeros(4, dtype=np.int8),
    0,
)


def state_of(h: np.ndarray):
    mined = Batch(h, np.maximum(h, 0), np.zeros(len(h), dtype=np.int64))
    return start_from(variables_of(SITES, mined), mined)


def test_each_kind_is_proposed_for_the_cell_that_has_the_inputs_and_noted(tmp_path: Path):
    rng = np.random.default_rng(0)
    h = np.stack([rng.uniform(1, 2, 60), rng.uniform(0, 1, 60)], axis=1)
    state = state_of(h)
    with Gate.create(tmp_path / "gate", NETWORK, SITES, rho="1/10") as gate:
        region = gate.add_region(CELL)
        found: dict[str, list] = {}
        for proposer in (Structure(gate, kind) for kind in STRUCTURE):
            assert isinstance(proposer, Proposer)
            for proposal in proposer.propose(state, ()):
                assert proposal.certify is not None and proposal.score > 0
                proposal.certify(gate)
        for _, entry in gate.history.living(NoteEntry):
            assert entry.topic == STRUCTURE_TOPIC
            said = json.loads(entry.text)
            assert said["cell"] == region
            found[said["kind"]] = said["facts"]
        assert found["dead"] == [2] and set(found["stable"]) == {0, 1}
        assert (
            found["duplicate"][0]["layer"] == 2
            and abs(found["duplicate"][0]["times"][0] - 1) < 1e-9
        )
        assert found["negligible"][0]["widths"][2] < 4
        counts = {one.kind: (one.cells, one.units) for one in structure_counts(gate.history)}
        assert counts["dead"] == (1, 1) and counts["stable"] == (1, 2)
        assert counts["duplicate"] == (1, 1) and counts["negligible"][0] == 1
        gate.note(STRUCTURE_TOPIC, "no JSON")
        assert len(structure_counts(gate.history)) == len(counts)
        gate.retract(gate.ledger.lines[-1].id, "test")
        gate.retract(region, "test")
        assert not list(gate.history.living(NoteEntry))


def test_nothing_is_proposed_where_no_certified_cell_is(tmp_path: Path):
    state = state_of(np.full((40, 2), -5.0) + np.arange(80).reshape(40, 2) / 100)
    with Gate.create(tmp_path / "gate", NETWORK, SITES, rho="1/10") as gate:
        assert all(Structure(gate, kind).propose(state, ()) == [] for kind in STRUCTURE)
        gate.add_region(CELL)
        assert all(Structure(gate, kind).propose(state, ()) == [] for kind in STRUCTURE)
        assert [one.kind for one in proved_proposers(gate)] == [
            "evidence",
            "irrelevance",
            *STRUCTURE,
        ]
