"""The search for cells: exact ranges, worst words, slopes, groups and questions."""

import numpy as np
import pytest

from compactproofs.explain._cell_floats import (
    Body,
    FloatFront,
    ListedBody,
    SpelledBody,
    largest_words,
    list_words,
)
from compactproofs.explain._cell_groups import group_of, grouping
from compactproofs.explain._cell_tree import at_least, query_in, token_in
from compactproofs.explain.cells import find_cells
from compactproofs.kernel import (
    CellWitness,
    CrosscoderDOptions,
    MaxOfK,
    SumModV,
    Transformer,
    crosscoder_d,
    integer_tables,
)
from compactproofs.kernel._front import front_model, verified_front
from random_models import max_like_model
from soundness.one_layer_networks import with_neurons
from transformers_for_tests import random_transformer

NETS = [
    random_transformer(np.random.default_rng(seed), k=3, v=4, mlp=5, scale=(1.0, 8.0)[seed % 2])
    for seed in range(4)
]


def bodies(net: Transformer, label: int) -> tuple[Body, Body]:
    """The same sequences, listed and spelled."""
    claimed = integer_tables(front_model(net))
    floats = FloatFront(verified_front(net, claimed), claimed)
    classes = MaxOfK(net.n_ctx, net.d_vocab).classes()
    words = {query: one for query, y, one in classes if y == label}
    return ListedBody(floats, label, words), SpelledBody(floats, label, words)


@pytest.mark.parametrize("net", NETS)
def test_ranges_of_automata_are_those_of_all_words(net: Transformer) -> None:
    for label in (1, 3):
        listed, spelled = bodies(net, label)
        assert listed.size == spelled.size == (label + 1) ** 3 - label**3
        for query in listed.words:
            for one, other in ((listed.low, spelled.low), (listed.high, spelled.high)):
                assert np.abs(one[query] - other[query]).max() < 1


@pytest.mark.parametrize("net", NETS)
def test_the_worst_sequence_is_found(net: Transformer) -> None:
    rng = np.random.default_rng(5)
    listed, spelled = bodies(net, 3)
    slope = rng.normal(size=(5, 3))
    for queries in ([3], [0, 2], [0, 1, 2, 3]):
        exact = listed.worst(queries, slope, np.zeros(3))
        found = spelled.worst(queries, slope, np.zeros(3))
        # A sum over positions is largest where it is weighted most, not where its average is; for
        # one sequence they agree, and the sign of the largest is that of the largest average.
        assert ((exact.bracket < 0) == (found.bracket < 0)).all()
        assert (found.bracket <= exact.bracket + 1).all()


def test_largest_words_are_those_of_enumeration() -> None:
    rng = np.random.default_rng(6)
    for words in (MaxOfK(4, 5).class_automaton(1, 3), SumModV(4, 4).class_automaton(2, 1)):
        assert words is not None
        weight, value = rng.random((3, 2, 5)), rng.normal(size=(3, 5, 6))
        offset = rng.normal(size=(2, 6))
        most, tokens = largest_words(words, weight, value, offset)
        listed = list_words(words)
        assert len(listed) == words.size == len({tuple(word) for word in listed.tolist()})
        sums = np.array(
            [
                sum(weight[i, :, t, None] * (value[i, t] + offset) for i, t in enumerate(word))
                for word in listed
            ]
        )
        assert np.allclose(most, sums.max(axis=0))
        where = sums.argmax(axis=0)
        assert (tokens == listed[where]).all()


def test_played_slopes_show_more_than_the_usual_ones() -> None:
    rng = np.random.default_rng(1)
    model = max_like_model(rng, k=2, v=4, sharpness=3.0, noise=0.1)
    net = with_neurons(rng, model.as_transformer(), 12, 1.0)
    better = 0
    for label in range(4):
        for body in bodies(net, label):
            queries = tuple(body.words)
            plain, played = (group_of(body, queries, play=play) for play in (False, True))
            assert played.worst <= plain.worst
            better += played.right and not plain.right
    assert better == 2  # of one label, listed and spelled


def test_groups_cover_the_queries_once_and_are_right() -> None:
    several = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        model = max_like_model(rng, k=2, v=4, sharpness=3.0, noise=0.2)
        net = with_neurons(rng, model.as_transformer(), 6, 2.0)
        for label in range(4):
            for body in bodies(net, label):
                found = grouping(body)
                groups = (*found.right, *found.open)
                assert sorted(q for group in groups for q in group.queries) == sorted(body.words)
                assert all(group.right for group in found.right)
                assert all(len(group.queries) == 1 for group in found.open)
                several += len(groups) > 1
    assert several > 3


@pytest.fixture(scope="module")
def net() -> Transformer:
    rng = np.random.default_rng(7)
    model = max_like_model(rng, k=4, v=4, sharpness=1.0, noise=0.1)
    return with_neurons(rng, model.as_transformer(), 5, 0.45)


TASK = MaxOfK(4, 4)


def correct(net: Transformer, options: CrosscoderDOptions, **more: object) -> tuple[int, int]:
    """Sequences proved right, and cells."""
    witness = CellWitness(**find_cells(net, TASK, options, **more))  # type: ignore[arg-type]
    return crosscoder_d(net, TASK, options, witness=witness).claim.correct, len(witness.range_low)


def test_questions_show_more_than_whole_labels(net: Transformer) -> None:
    options = CrosscoderDOptions(bins=0)
    unasked, asked = correct(net, options, seconds=0.0), correct(net, options)
    assert unasked[0] < asked[0] and unasked[1] < asked[1]


def test_more_cells_prove_more(net: Transformer) -> None:
    found = [correct(net, CrosscoderDOptions(0, cells), seconds=0.0) for cells in (1, 2, 1024)]
    assert found[0][0] < found[1][0] < found[2][0]
    assert [cells for _, cells in found[:2]] == [1, 2]


def test_proposed_questions_come_first(net: Transformer) -> None:
    options = CrosscoderDOptions(bins=0)
    proposed = [token_in(1, {3}), at_least(2, {2, 3}), query_in({0, 1})]
    witness = find_cells(net, TASK, options, questions=proposed, seconds=0.0)
    rows, sets = witness["tree"].tolist(), witness["sets"].reshape(-1, 4).tolist()
    asked = [(kind, number, sets[of]) for kind, number, of in rows if kind > 1]
    position = [kind for kind, _, _ in rows].index(3)
    assert asked[[kind for kind, _, _ in asked].index(3)] == (3, 1, [0, 0, 0, 1])
    assert rows[position + 1][:2] == [4, 2] and sets[rows[position + 1][2]] == [0, 0, 1, 1]
    assert (
        correct(net, options, seconds=0.0)[0]
        < crosscoder_d(net, TASK, options, witness=CellWitness(**witness)).claim.correct
    )


def test_progress_is_told(net: Transformer) -> None:
    ticks: list[tuple[int, int]] = []
    find_cells(net, TASK, CrosscoderDOptions(bins=0), lambda *done: ticks.append(done))
    assert ticks[:4] == [(0, 4), (1, 4), (2, 4), (3, 4)] and len(ticks) > 4
    assert all(done < of for done, of in ticks)
