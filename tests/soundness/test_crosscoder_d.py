"""Theorem D: cells by questions, exact ranges, relaxed neurons; against exhaustive truth."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from certificates import claim_of, sign
from compactproofs import prove
from compactproofs.explain.cells import find_cells
from compactproofs.kernel import (
    THEOREMS,
    CellWitness,
    CrosscoderDOptions,
    MalformedError,
    MaxOfK,
    OptionError,
    Outcome,
    RejectedError,
    TaskError,
    Transformer,
    check,
    crosscoder_d,
    decode_certificate,
    encode_certificate,
)
from random_models import max_like_model
from transformers_for_tests import random_transformer

from . import laws_of_crosscoder_d, laws_of_relaxations
from .laws_of_crosscoder_d import Case, imagined_cases, of_drawn_witnesses, overrated, real_cases
from .one_layer_networks import with_neurons

LAWS = (*laws_of_relaxations.LAWS, laws_of_crosscoder_d.imagined, laws_of_crosscoder_d.real)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def test_the_laws_are_tried_where_a_defect_would_show(plain: ModuleType) -> None:
    """Of what is right nearly all is proved with a witness found, but not all models are right."""
    cases = real_cases()[:: laws_of_crosscoder_d.SEARCHED]
    proved = 0
    for n, case in enumerate(cases):
        witness = laws_of_crosscoder_d.searched(laws_of_crosscoder_d.SEARCHED * n)
        options, found = plain.CrosscoderDOptions(), plain.CellWitness(**witness)
        net, task = laws_of_crosscoder_d.in_kernel(plain, case), case.task_for(plain)
        proved += plain.crosscoder_d(net, task, options, witness=found).claim.correct
    right = sum(sum(case.right.values()) for case in cases)
    assert 0.9 * right < proved <= right < 0.6 * sum(len(case.right) for case in cases)
    assert sum(0 < sum(case.right.values()) < len(case.right) for case in cases) > len(cases) // 2


def test_no_class_is_overrated_where_every_shape_is_checked() -> None:
    rng = np.random.default_rng(3)
    for case in (*real_cases()[:4], *imagined_cases()[:8]):
        from compactproofs import kernel

        assert list(of_drawn_witnesses(kernel, rng, case, (False, True))) == []


@pytest.fixture(scope="module")
def net() -> Transformer:
    rng = np.random.default_rng(7)
    model = max_like_model(rng, k=3, v=4, sharpness=2.0, noise=0.1)
    return with_neurons(rng, model.as_transformer(), 5, 0.3)


TASK = MaxOfK(3, 4)


@pytest.fixture(scope="module")
def witness(net: Transformer) -> CellWitness:
    return CellWitness(**find_cells(net, TASK, CrosscoderDOptions()))


def run(net: Transformer, witness: CellWitness | None, **options: int) -> Any:
    return crosscoder_d(net, TASK, CrosscoderDOptions(**options), witness=witness)


def test_a_good_model_is_proved_and_its_certificate_holds(
    net: Transformer, witness: CellWitness
) -> None:
    proved = run(net, witness)
    case = case_of(net)
    assert list(overrated(case, proved.by_class)) == []
    assert proved.claim.correct == sum(case.right.values()) > 50
    assert proved.outcome is Outcome.PROVED and proved.claim.theorem == "crosscoder-d"
    data = encode_certificate(proved)
    assert data == encode_certificate(run(net, witness))
    verdict = check(data, net, TASK)
    assert verdict.outcome is Outcome.PROVED and verdict.claim == proved.claim
    read = decode_certificate(data)
    assert read.tables is None
    for name, array in witness._asdict().items():
        assert (getattr(read.witness, name) == array).all()
    other = replace(net, b_U=net.b_U + 1.0)
    assert check(data, other).outcome is Outcome.MISMATCH


def case_of(net: Transformer) -> Case:
    from .drawn_trees import all_labels
    from .transformer_truth import answers

    truth = answers(net, lambda tokens: tokens.max(axis=1))
    labels = all_labels(net.n_ctx, net.d_vocab, lambda tokens: tokens.max(axis=1))
    right = dict(zip(labels, truth.right.tolist(), strict=True))
    sizes = (net.n_ctx, net.d_vocab, net.d_vocab_out, net.blocks[0].d_mlp)
    return Case("net", net, "max", 0, {}, sizes, labels, right, {}, 0, narrow=True)


def test_without_neurons_it_is_the_additive_theorem() -> None:
    rng = np.random.default_rng(8)
    for noise in (0.1, 0.5):
        model = max_like_model(rng, k=4, v=5, noise=noise)
        additive = prove(model, MaxOfK(4, 5), "additive")
        cells = prove(model, MaxOfK(4, 5), "crosscoder-d")
        assert 0 < additive.claim.correct == cells.claim.correct
        assert additive.by_class == cells.by_class


def test_parts_of_a_task_add_up(net: Transformer) -> None:
    from compactproofs.kernel import compose, parse_task

    whole = run(net, CellWitness(**find_cells(net, TASK, CrosscoderDOptions())))
    parts = [
        prove(net, parse_task(f"max:k=3,v=4,q={queries}", parts=True), "crosscoder-d")
        for queries in ("0-1", "2-3")
    ]
    composed = compose(parts)
    assert composed.claim.correct == whole.claim.correct
    assert check(encode_certificate(composed), net, TASK).outcome is Outcome.PROVED


def test_fewer_cells_and_no_bins_prove_no_more(net: Transformer) -> None:
    full = prove(net, TASK, "crosscoder-d").claim
    for options in ({"cells": 1}, {"cells": 2}, {"bins": 0}, {"cells": 2, "bins": 0}):
        claim = prove(net, TASK, "crosscoder-d", options).claim
        assert claim.correct <= full.correct
        assert dict(claim.options) == {"bins": 128, "cells": 1024} | options
    assert 0 < prove(net, TASK, "crosscoder-d", {"cells": 1}).claim.correct < full.correct


def test_unexplained_dimension_counts_tables_coefficients_and_cells(
    net: Transformer, witness: CellWitness
) -> None:
    v, k, x, m = 4, 3, 4, 5
    tables = v * v + v * k + v * (x + m) + k * (x + m) + v * (x + m)
    cells = len(witness.range_low) * (2 * m + x - 1)
    assert run(net, witness).claim.unexplained_dimension == tables + m * x + cells


@pytest.mark.parametrize(
    "layers, heads, found", [(2, 1, "2 layers of 1 heads"), (1, 2, "1 layers of 2 heads")]
)
def test_other_models_are_refused(layers: int, heads: int, found: str) -> None:
    other = random_transformer(np.random.default_rng(1), k=3, v=4, layers=layers, heads=heads)
    with pytest.raises(OptionError, match=found):
        prove(other, TASK, "crosscoder-d")


def test_misuse_is_refused(net: Transformer, witness: CellWitness) -> None:
    with pytest.raises(OptionError, match="needs its witness"):
        run(net, None)
    with pytest.raises(TaskError, match="has v=5"):
        crosscoder_d(net, MaxOfK(3, 5), CrosscoderDOptions(), witness=witness)
    with pytest.raises(OptionError, match="cells, more than cells = 2"):
        run(net, witness, cells=2)
    for options in ({"bins": -1}, {"bins": 65537}, {"cells": 0}, {"cells": 65537}):
        with pytest.raises(OptionError, match=f"{next(iter(options))} = "):
            CrosscoderDOptions(**options)
    with pytest.raises(OptionError, match="no semantics float32"):
        prove(net, TASK, "crosscoder-d", semantics="float32")


def set_to(array: np.ndarray, at: Any, value: int) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


SPOILT: dict[str, tuple[Callable[[CellWitness], dict[str, Any]], str]] = {
    "no rows": (lambda w: {"tree": w.tree[:0]}, "ends within a tree"),
    "a row short": (lambda w: {"tree": w.tree[:-1]}, "ends within a tree"),
    "a row too many": (lambda w: {"tree": np.vstack([w.tree, w.tree[-1:]])}, "more than 4 trees"),
    "unknown kind": (lambda w: {"tree": set_to(w.tree, (-1, 0), 5)}, r"is \[5, 0, 0\]"),
    "negative kind": (lambda w: {"tree": set_to(w.tree, (-1, 0), -1)}, r"is \[-1, 0, 0\]"),
    "leaf with a number": (lambda w: {"tree": set_to(w.tree, (-1, 1), 1)}, r"is \[0, 1, 0\]"),
    "leaf with a set": (lambda w: {"tree": set_to(w.tree, (-1, 2), 1)}, r"is \[0, 0, 1\]"),
    "query with a number": (lambda w: asking(w, 2, 1, 0), r"is \[2, 1, 0\]"),
    "no such position": (lambda w: asking(w, 3, 2, 0), r"is \[3, 2, 0\]"),
    "position before the first": (lambda w: asking(w, 3, -1, 0), r"is \[3, -1, 0\]"),
    "count of none": (lambda w: asking(w, 4, 0, 0), r"is \[4, 0, 0\]"),
    "count beyond the word": (lambda w: asking(w, 4, 3, 0), r"is \[4, 3, 0\]"),
    "no such set": (lambda w: asking(w, 2, 0, 1), r"is \[2, 0, 1\]"),
    "set before the first": (lambda w: asking(w, 2, 0, -1), r"is \[2, 0, -1\]"),
    "marks of 2": (lambda w: {"sets": np.array([2, 0, 0, 0], np.uint8)}, "its marks are 0 and 1"),
    "half a set": (lambda w: {"sets": np.zeros(6, np.uint8)}, "tensor sets is"),
    "sets of another type": (lambda w: {"sets": np.zeros(4, np.int32)}, "tensor sets is"),
    "tree of another type": (lambda w: {"tree": w.tree.astype(np.int64)}, "tensor tree is"),
    "tree of two columns": (lambda w: {"tree": w.tree[:, :2]}, "tensor tree is"),
    "tree of one axis": (lambda w: {"tree": w.tree.ravel()}, "tensor tree is"),
    "ranges of fewer cells": (lambda w: {"range_low": w.range_low[1:]}, "tensor range_low is"),
    "ranges of fewer neurons": (lambda w: {"range_high": w.range_high[:, 1:]}, "range_high is"),
    "no ranges": (lambda w: {"range_low": None}, "tensor range_low is None"),
    "slopes of fewer cells": (lambda w: {"share": w.share[1:]}, "tensor share is"),
    "slopes beyond the whole": (lambda w: {"share": set_to(w.share, 0, 129)}, "128 parts"),
    "no tables": (
        lambda w: {"front_value_low": w.front_value_low[:, :, 1:]},
        "value_low has shape",
    ),
}


def asking(witness: CellWitness, kind: int, number: int, of: int) -> dict[str, np.ndarray]:
    """A question before everything else, with one set to ask for."""
    first = np.array([[kind, number, of]], dtype=np.int32)
    return {"tree": np.vstack([first, witness.tree]), "sets": np.ones(4, np.uint8)}


@pytest.mark.parametrize("name", SPOILT)
def test_a_witness_of_another_form_is_malformed(
    name: str, net: Transformer, witness: CellWitness, plain: ModuleType
) -> None:
    spoil, message = SPOILT[name]
    fields = witness._asdict() | spoil(witness)
    transformer = laws_of_crosscoder_d.transformer_for(plain, net)
    with pytest.raises(plain.MalformedError, match=message):
        plain.crosscoder_d(
            transformer, plain.MaxOfK(3, 4), plain.CrosscoderDOptions(),
            witness=plain.CellWitness(**fields),
        )  # fmt: skip


def test_a_question_that_changes_nothing_changes_nothing(
    net: Transformer, witness: CellWitness
) -> None:
    """A valid question where ``asking`` put invalid ones: the spoilt ones fail for their fault."""
    sets = witness.sets.reshape(-1, 4)
    tree = np.vstack([np.array([[2, 0, len(sets)]], np.int32), witness.tree[:1]])
    first = int((witness.tree[0] == 0).all())
    assert first  # label 0 has one cell
    tree = np.vstack([tree, np.array([[1, 0, 0]], np.int32), witness.tree[1:]])
    everything = np.concatenate([witness.sets, np.ones(4, np.uint8)])
    asked = witness._replace(tree=tree, sets=everything)
    assert run(net, asked).claim.correct == run(net, witness).claim.correct


def test_ranges_that_a_neuron_leaves_are_rejected(net: Transformer, witness: CellWitness) -> None:
    low, high = witness.range_low.astype(np.int64), witness.range_high.astype(np.int64)
    both = np.argwhere((low > -(1 << 31)) & (high < (1 << 31) - 1) & (high - low > 1000))
    assert len(both) > 2
    for at in map(tuple, both):
        inner = int(high[at] - low[at]) // 100
        for name, value in (("range_low", low[at] + inner), ("range_high", high[at] - inner)):
            spoilt = witness._replace(**{name: set_to(getattr(witness, name), at, int(value))})
            with pytest.raises(RejectedError, match="leaves the range claimed of it"):
                run(net, spoilt)


def test_tables_that_are_not_the_models_are_rejected(
    net: Transformer, witness: CellWitness
) -> None:
    for name in ("value", "direct", "weight"):
        high = getattr(witness, f"front_{name}_high")
        at = tuple(size - 1 for size in high.shape)
        low = set_to(getattr(witness, f"front_{name}_low"), at, int(high[at]) - 200)
        lower = set_to(high, at, int(high[at]) - 100)
        spoilt = witness._replace(**{f"front_{name}_low": low, f"front_{name}_high": lower})
        with pytest.raises(RejectedError, match=f"the {name} table does not enclose"):
            run(net, spoilt)


def test_a_certificate_with_another_number_or_witness_is_refused(
    net: Transformer, witness: CellWitness
) -> None:
    data = encode_certificate(run(net, witness))
    fields, tensors = claim_of(data), load(data)
    signed = sign(fields, tensors)
    assert check(signed, net).outcome is Outcome.PROVED
    for name, value in (("correct", "64"), ("undecided", "0"), ("flops", "1")):
        changed = fields | {name: value}
        if name == "correct":
            changed["bound"] = "1/1"
        if changed != fields:
            assert check(sign(changed, tensors), net).outcome is Outcome.REJECTED
    assert check(sign(fields | {"options": {}}, tensors), net).outcome is Outcome.REJECTED
    for name, outcome in (
        ("tree", Outcome.MALFORMED),
        ("range_low", Outcome.MALFORMED),
        ("share", Outcome.MALFORMED),
        ("front_direct_low", Outcome.MALFORMED),
    ):
        assert check(sign(fields, tensors | {name: tensors[name][1:]}), net).outcome is outcome
    without = {name: array for name, array in tensors.items() if name != "sets"}
    assert check(sign(fields, without), net).outcome is Outcome.MALFORMED
    given_up = tensors | {"tree": set_to(tensors["tree"], (-1, 0), 1)}
    given_up |= {name: tensors[name][:-1] for name in ("range_low", "range_high")}
    given_up["share"] = tensors["share"][: -4 * 5]
    assert check(sign(fields, given_up), net).outcome is Outcome.REJECTED
    wrong = set_to(tensors["range_high"], (0, 0), -(1 << 31))
    assert check(sign(fields, tensors | {"range_high": wrong}), net).outcome is Outcome.REJECTED


def test_it_is_registered_for_transformers_of_any_kind() -> None:
    known = THEOREMS["crosscoder-d"]
    assert known.on_transformer is known.prove is crosscoder_d and not known.from_tables
    assert set(known.witness_types) == set(CellWitness._fields)


def test_malformed_is_what_the_public_error_says() -> None:
    with pytest.raises(MalformedError, match="missing or unknown"):
        prove(
            random_transformer(np.random.default_rng(1), k=3, v=4),
            TASK,
            "crosscoder-d",
            witness={"tree": np.zeros((0, 3), np.int32)},
        )
