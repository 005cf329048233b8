"""From a crosscoder or plain arrays to witnesses of theorems B and C; what falls short and why."""

from dataclasses import replace

import numpy as np
import pytest

from codes_for_tests import TaughtSubject, taught_subject
from compactproofs.crosscoders import CrosscoderError
from compactproofs.crosscoders._placed import anchored, in_cells, on_grid
from compactproofs.crosscoders.proofs import (
    CELLS,
    Found,
    additive_witness,
    cell_witness,
    cells_of,
)
from compactproofs.crosscoders.slack import Cause, PairCost, slack_of
from compactproofs.crosscoders.sparse_codes import (
    SparseCodes,
    crosscoder_codes,
    dense_codes,
    pursued,
    refitted,
)
from compactproofs.crosscoders.tighten import merged, tighten
from compactproofs.kernel import MaxOfK, parse_task, sequences
from lookup_crosscoder import lookup_crosscoder

SITES = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid", "blocks.0.hook_resid_post")


def missed(codes: SparseCodes, subject: TaughtSubject) -> np.ndarray:
    return np.linalg.norm(subject.residual - codes.decoded(), axis=1)


def found_of(theorem: str, subject: TaughtSubject, **settings: object) -> Found:
    make = additive_witness if theorem == "b" else cell_witness
    return make(subject.net, subject.task, subject.sparse(3), values=32, **settings)  # type: ignore[arg-type]


def test_a_crosscoder_that_knows_every_input_proves_all_that_is_true() -> None:
    subject = taught_subject(1, mlp=6)
    tokens = sequences(subject.task, 0, subject.task.total)
    crosscoder = lookup_crosscoder(subject.net, SITES, tokens)
    codes = crosscoder_codes(subject.net, subject.task, crosscoder, 1)
    assert codes.feature[:, 0].tolist() == list(range(len(tokens)))
    assert missed(codes, subject).max() < 1e-4
    plain = {"cells": "one", "anchors": False, "signs": False}
    found = additive_witness(subject.net, subject.task, crosscoder, k=1, **plain)
    assert found.prove().claim.correct == subject.right.sum()


def test_a_crosscoder_that_does_not_fit_is_refused() -> None:
    subject, other = taught_subject(1, mlp=6), taught_subject(2, mlp=6)
    tokens = sequences(subject.task, 0, 5)
    with pytest.raises(CrosscoderError, match="does not write the site blocks.0.hook_resid_mid"):
        crosscoder = lookup_crosscoder(subject.net, SITES[:1], tokens)
        additive_witness(subject.net, subject.task, crosscoder)
    with pytest.raises(CrosscoderError, match="pass its own model"):
        crosscoder = lookup_crosscoder(other.net, SITES, tokens)
        cell_witness(subject.net, subject.task, crosscoder)
    few = SparseCodes(np.ones((2, 6)), np.ones(6), np.zeros((5, 1), np.int64), np.ones((5, 1)))
    with pytest.raises(CrosscoderError, match="codes of 5 sequences in 6 dimensions"):
        cell_witness(subject.net, subject.task, few)
    with pytest.raises(CrosscoderError, match="known are one, label, strongest, two, support"):
        additive_witness(subject.net, subject.task, subject.sparse(2), cells="odd")
    with pytest.raises(CrosscoderError, match="known are dedicate, split, merge, halve, residual"):
        tighten(found_of("b", subject), actions=("guess",))


def test_refitted_values_are_the_best_of_their_features() -> None:
    subject = taught_subject(1, mlp=6)
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(len(subject.residual), 9))
    codes = dense_codes(rng.normal(size=(9, 6)), subject.residual.mean(axis=0), dense, 3)
    best = refitted(codes, subject.residual)
    assert (best.feature == codes.feature).all()
    for own, row, left in zip(
        best.feature, best.value, subject.residual - best.decoded(), strict=True
    ):
        assert np.abs(codes.decoder[own] @ left).max() < 1e-6
        assert len(set(own)) == 3 and row.all()
    longer = pursued(best, subject.residual, 5, 3)
    assert (longer.feature[:, :3] == best.feature).all()
    assert (missed(longer, subject) <= missed(best, subject) + 1e-9).all()
    assert missed(longer, subject).mean() < 0.7 * missed(best, subject).mean()


def test_the_largest_entries_are_kept() -> None:
    decoder = np.array([[1.0, 0.0], [0.0, 10.0], [3.0, 4.0]])
    codes = dense_codes(decoder, np.zeros(2), np.array([[4.0, 1.0, 0.0], [0.0, 0.0, -1.0]]), 2)
    assert codes.feature.tolist() == [[1, 0], [2, -1]]
    assert codes.value.tolist() == [[1.0, 4.0], [-1.0, 0.0]]
    assert codes.decoded().tolist() == [[4.0, 10.0], [-3.0, -4.0]]


def test_anchors_move_a_feature_into_the_base_point_and_change_no_decode() -> None:
    subject = taught_subject(1, mlp=6)
    codes = subject.sparse(3)
    for cells in CELLS:
        cell = cells_of(codes, subject.label, cells)
        moved, stay = anchored(codes, cell), in_cells(codes, cell)
        assert np.allclose(moved.decoded(), codes.decoded(), rtol=0, atol=1e-9)
        assert np.allclose(stay.decoded(), codes.decoded(), rtol=0, atol=1e-9)
        assert (moved.feature >= 0).sum(axis=1).max() <= 4
        new = moved.origin[len(codes.decoder) :, 0]
        assert (moved.decoder[len(codes.decoder) :] == codes.decoder[new]).all()


def test_cells_are_told_apart_by_label_and_strongest_features() -> None:
    decoder = np.array([[1.0], [1.0], [1.0]])
    codes = SparseCodes(
        decoder,
        np.zeros(1),
        np.array([[0, 1], [1, 0], [0, 2], [0, 1]]),
        np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]),
    )
    label = np.array([0, 0, 0, 1])
    several = {name: len(set(cells_of(codes, label, name).tolist())) for name in CELLS}
    assert several == {"one": 1, "label": 2, "strongest": 3, "two": 3, "support": 3}
    assert cells_of(codes, label, "support").tolist() == [0, 0, 1, 2]


def test_a_grid_holds_few_values_exactly_and_many_closely() -> None:
    subject = taught_subject(1, mlp=6)
    codes = in_cells(subject.sparse(3), subject.label)
    exact, level, atom = on_grid(codes, len(codes.value))
    assert (exact.value == codes.value).all()
    assert (level.reshape(-1)[atom[codes.feature >= 0]] == codes.value[codes.feature >= 0]).all()
    assert (atom[codes.feature < 0] == -1).all()
    errors = [np.abs(on_grid(codes, n)[0].value - codes.value).max() for n in (2, 4, 8)]
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("theorem", ["b", "c"])
def test_what_is_claimed_is_proved_and_is_true(theorem: str) -> None:
    for seed, cells in ((1, "strongest"), (5, "one")):
        subject = taught_subject(seed, mlp=6)
        found = found_of(theorem, subject, cells=cells, extra=1)
        claimed = found.claims.claimed > 0
        assert 0 < claimed.sum() == found.prove().claim.correct
        assert not (claimed & ~subject.right).any()
        assert (found.claims.worst[claimed] <= subject.margin.min(axis=1)[claimed] + 1e-9).all()
        assert found.share == claimed.mean()
        everything = found_of(theorem, subject, cells=cells, forward_passes=True)
        assert everything.prove().claim.correct == subject.right.sum()


@pytest.mark.parametrize("theorem", ["b", "c"])
def test_slack_adds_up_to_what_is_missing(theorem: str) -> None:
    subject = taught_subject(1, mlp=6)
    found = found_of(theorem, subject)
    slack = slack_of(found)
    claimed = found.claims.claimed > 0
    assert (slack.proved == claimed).all() and not claimed.all()
    losses = slack.claim + slack.own + slack.residual
    assert np.allclose(slack.bound, slack.margin - losses, rtol=0, atol=1e-9)
    assert slack.own.min() > -1e-9 and slack.residual.min() > -1e-9
    assert np.allclose(slack.bound[claimed], found.claims.worst[claimed], rtol=0, atol=1e-9)
    rows = np.arange(len(claimed))
    others = slack.rival - (slack.rival > subject.label)
    assert np.allclose(slack.margin, subject.margin[rows, others], rtol=0, atol=1e-9)
    assert (slack.rival != subject.label).all()
    assert sum(slack.causes.values()) == (~claimed).sum()
    assert slack.causes[Cause.WRONG] == (~subject.right).sum()
    assert slack.means["margin"] == slack.margin.mean()


@pytest.mark.parametrize("theorem", ["b", "c"])
def test_pairs_that_interact_are_named_and_priced(theorem: str) -> None:
    subject = taught_subject(1, mlp=6)
    slack = slack_of(found_of(theorem, subject, cells="one"))
    pairs = slack.pairs
    assert pairs and [pair.costs for pair in pairs] == sorted(
        (p.costs for p in pairs), reverse=True
    )
    assert len({(pair.first, pair.second) for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.first < pair.second and len(pair.first) == 1
        assert 0 <= pair.costs <= pair.sequences and pair.loss > 0
    failing = ~slack.proved & np.array([c not in (Cause.WRONG, Cause.CLAIM) for c in slack.cause])
    assert sum(pair.loss for pair in pairs) <= slack.own[failing].sum() * (1 + 1e-9)


def test_features_that_share_no_neuron_have_no_pair() -> None:
    subject = taught_subject(1, mlp=0)
    slack = slack_of(found_of("b", subject, cells="one"))
    assert slack.pairs == () and slack.own.max() < 1e-9


@pytest.mark.parametrize("theorem", ["b", "c"])
def test_tightening_proves_more_until_everything_true_is_proved(theorem: str) -> None:
    subject = taught_subject(1, mlp=6)
    start = found_of(theorem, subject, cells="one")
    done = tighten(start, rounds=1)
    first = start.prove().claim
    assert done.proved.claim.correct == subject.right.sum() > first.correct
    kept = [step for step in done.steps if step.kept]
    assert kept[0].before == first.correct and kept[-1].after == done.proved.claim.correct
    for step, after in zip(kept, [*kept[1:], None], strict=True):
        assert step.after > step.before and step.gain_per_flop > 0
        assert after is None or after.before == step.after
    assert {step.action for step in done.steps} >= {"dedicate", "split", "enumerate"}


def test_tightening_stops_at_its_target_and_undoes_what_is_too_long() -> None:
    subject = taught_subject(1, mlp=6)
    start = found_of("c", subject, cells="one")
    first = start.prove().claim
    assert tighten(start, target=float(first.bound)).steps == ()
    limited = tighten(start, most_flops=first.flops, actions=("enumerate",))
    assert [step.kept for step in limited.steps] == [False]
    assert limited.proved.claim == first


def test_labels_without_features_get_their_own() -> None:
    subject = taught_subject(1, mlp=6)
    # Features that say nothing of the largest token 0, and next to nothing of 1.
    rare = subject.label < 2
    mean = subject.residual[~rare].mean(axis=0)
    decoder = np.linalg.svd(subject.residual[~rare] - mean)[2][:4]
    nothing = np.full((len(rare), 1), -1)
    codes = SparseCodes(decoder, mean, nothing, np.zeros(nothing.shape))
    start = cell_witness(subject.net, subject.task, codes, extra=3, values=32)
    done = tighten(start, actions=("dedicate",), rounds=1)
    (step,) = done.steps
    assert step.kept and step.after > step.before
    assert done.found.search.atom.shape == start.search.atom.shape
    new = done.found.search.placed.origin[4:, 0]
    assert new.tolist() == list(range(4, 4 + len(new)))


def test_a_pair_becomes_compound_features() -> None:
    subject = taught_subject(1, mlp=6)
    start = found_of("b", subject, cells="label")
    done = tighten(start, actions=("merge",), rounds=1)
    for step in done.steps:
        assert step.action == "merge" and step.detail.startswith("features (")
    assert done.proved.claim.correct >= start.prove().claim.correct


def test_a_compound_feature_stands_for_two() -> None:
    subject = taught_subject(1, mlp=6)
    placed = in_cells(subject.sparse(2), subject.label)
    first, second = (int(i) for i in np.sort(placed.feature[0]))
    together = merged(placed, PairCost((first,), (second,), 1, 1.0, 1))
    assert together is not None
    both = (placed.feature == first).any(axis=1) & (placed.feature == second).any(axis=1)
    rows = together.feature[both]
    assert (np.sort(rows, axis=1)[:, 0] == -1).all() and (rows.max(axis=1) >= 12).all()
    assert (together.feature[~both] == placed.feature[~both]).all()
    assert (together.origin[12:] == [first, second]).all()
    # Rows are made for ratios that occur: what moves is the difference from the nearest of them.
    moved = np.linalg.norm(together.decoded() - placed.decoded(), axis=1)
    size = np.linalg.norm(placed.decoded() - placed.bias[0], axis=1)
    assert (moved[~both] == 0).all() and (moved[both] < 0.5 * size[both]).all()
    assert merged(placed, PairCost((first,), (99,), 1, 1.0, 1)) is None


def test_a_part_of_a_task_is_proved_too() -> None:
    subject = taught_subject(1, mlp=6)
    part = parse_task(f"{subject.task.name},q=1-2", parts=True)
    tokens = sequences(subject.task, 0, subject.task.total)
    own = np.isin(tokens[:, -1], (1, 2))
    whole = subject.sparse(3)
    codes = replace(whole, feature=whole.feature[own], value=whole.value[own])
    for make in (additive_witness, cell_witness):
        found = make(subject.net, part, codes, forward_passes=True)
        assert found.prove().claim.correct == subject.right[own].sum()


def test_a_single_output_is_always_right() -> None:
    net = taught_subject(1, mlp=6).net
    single = replace(net, W_E=net.W_E[:1], W_U=net.W_U[:, :1], b_U=net.b_U[:1])
    codes = SparseCodes(net.W_E, np.zeros(6), np.array([[0]]), np.ones((1, 1)))
    for make in (additive_witness, cell_witness):
        found = make(single, MaxOfK(net.n_ctx, 1), codes, k=1)
        assert found.prove().claim.correct == 1
