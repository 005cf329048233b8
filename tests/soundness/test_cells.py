"""Cells through depth, against forward passes and exact truth."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load

from certificates import altered, claim_of, sign
from compactproofs import prove
from compactproofs.explain.cells_through_depth import find_cells_through_depth
from compactproofs.kernel import (
    CellsOptions,
    CellsWitness,
    MalformedError,
    MaxOfK,
    OptionError,
    Outcome,
    RejectedError,
    Transformer,
    cells,
    check,
    encode_certificate,
)
from compactproofs.kernel.theorems import brute_force_network
from random_models import max_like_model
from transformers_for_tests import random_transformer

from . import laws_of_cells


@pytest.mark.parametrize("law", laws_of_cells.LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(law: Callable[[ModuleType], Iterator[str]], plain: ModuleType) -> None:
    assert list(law(plain)) == []


def deep_max_model(
    rng: np.random.Generator, *, k: int, v: int, layers: int = 2, disturbance: float = 0.15
) -> Transformer:
    """Mostly right at max-of-k: attention of a layer that is, then MLPs and attention of noise."""
    net = max_like_model(rng, k=k, v=v).as_transformer()
    noise = random_transformer(rng, k=k, v=v, layers=layers, d=net.d_model, h=v, mlp=6)
    blocks = [
        replace(
            block,
            W_O=disturbance * block.W_O,
            W_out=disturbance * block.W_out,
            b_O=disturbance * block.b_O,
            b_out=disturbance * block.b_out,
        )
        for block in noise.blocks
    ]
    names = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")
    own = {name: getattr(net.blocks[0], name) for name in names}
    return replace(net, blocks=(replace(blocks[0], **own), *blocks[1:]))


@pytest.mark.parametrize(("layers", "relaxed", "least"), [(1, 1, 1.0), (2, 1, 1.0), (2, 2, 0.95)])
def test_few_cells_prove_nearly_all_that_is_true(layers: int, relaxed: int, least: float) -> None:
    net, task = deep_max_model(np.random.default_rng(4), k=3, v=5, layers=layers), MaxOfK(3, 5)
    true = brute_force_network(net, task, None).claim
    proved = prove(net, task, "cells", {"cells": 12, "relaxed": relaxed})
    # Measured: 83 of 83, 75 of 75 and 75 of 75; 5 cells, one a label, give 76, 69 and 66.
    assert true.correct >= proved.claim.correct >= least * true.correct >= 70
    assert len(set(proved.witness.cell) - {-1}) <= 12  # type: ignore[union-attr]
    assert proved.claim.flops < 0.4 * true.flops


def test_a_cell_for_each_sequence_proves_all_that_is_true() -> None:
    rng = np.random.default_rng(8)
    for layers, heads, mlp, direction in (
        (3, 1, 4, "causal"),
        (2, 2, 3, "bidirectional"),
        (2, 1, 0, "causal"),
    ):
        net = random_transformer(
            rng, k=3, v=3, layers=layers, heads=heads, mlp=mlp, direction=direction
        )
        task = MaxOfK(3, 3)
        true = brute_force_network(net, task, None).claim
        assert true.undecided == 0
        assert prove(net, task, "cells").claim.correct == true.correct > 0


def test_more_lines_cost_something_and_prove_something() -> None:
    rng = np.random.default_rng(9)
    net, task = deep_max_model(rng, k=2, v=5, layers=3, disturbance=0.6), MaxOfK(2, 5)
    one, two, three = (
        prove(net, task, "cells", {"relaxed": relaxed, "cells": 5}).claim.correct
        for relaxed in (1, 2, 3)
    )
    assert brute_force_network(net, task, None).claim.correct >= one > two > three > 0


def test_an_attention_only_model_of_one_layer_needs_one_cell_a_label() -> None:
    model = max_like_model(np.random.default_rng(2), k=3, v=4)
    proved = prove(model, MaxOfK(3, 4), "cells", {"cells": 4})
    true = prove(model, MaxOfK(3, 4), "brute-force").claim
    assert proved.claim.correct == true.correct
    assert proved.claim.model_sha256 == model.sha256


def test_cells_that_are_proposed_are_kept_apart() -> None:
    net, task = deep_max_model(np.random.default_rng(3), k=3, v=5), MaxOfK(3, 5)
    seeds = np.arange(125) % 3
    found = find_cells_through_depth(net, task, CellsOptions(), seeds=seeds)["cell"]
    for one in set(found.tolist()) - {-1}:
        assert len(set(seeds[found == one])) == 1
    with pytest.raises(OptionError, match="one number for each of the 125"):
        find_cells_through_depth(net, task, CellsOptions(), seeds=seeds[:9])


@pytest.fixture(scope="module")
def certified() -> tuple[Transformer, bytes]:
    net = deep_max_model(np.random.default_rng(3), k=3, v=5)
    return net, encode_certificate(prove(net, MaxOfK(3, 5), "cells", {"relaxed": 2}))


def test_a_certificate_comes_back(certified: tuple[Transformer, bytes]) -> None:
    net, data = certified
    verdict = check(data, net, MaxOfK(3, 5))
    assert verdict.outcome is Outcome.PROVED
    assert verdict.claim is not None and verdict.claim.options == (("cells", 1024), ("relaxed", 2))
    other = deep_max_model(np.random.default_rng(30), k=3, v=5)
    assert check(data, other).outcome is Outcome.MISMATCH


def test_hostile_edits_of_a_certificate_are_refused(certified: tuple[Transformer, bytes]) -> None:
    net, data = certified
    fields, cell = claim_of(data), load(data)["cell"]

    def outcome(cells: np.ndarray, **changes: str | dict[str, str]) -> Outcome:
        return check(sign(fields | changes, {"cell": cells}), net).outcome

    assert outcome(cell) is Outcome.PROVED
    # More right than is claimed of sequences.
    correct, total = int(fields["correct"]) + 1, int(fields["total"])
    assert check(altered(data, correct=str(correct), bound=f"{correct}/{total}"), net).outcome in (
        Outcome.REJECTED,
        Outcome.MALFORMED,
    )
    assert outcome(np.where(cell < 0, 0, cell)) is Outcome.REJECTED
    assert outcome(np.zeros_like(cell)) is Outcome.REJECTED
    assert outcome(np.full_like(cell, -1)) is Outcome.REJECTED
    assert outcome(np.full_like(cell, -2)) is Outcome.MALFORMED
    assert outcome(cell[1:]) is Outcome.MALFORMED
    assert outcome(cell, flops="1") is Outcome.REJECTED
    assert outcome(cell, options={"cells": "2", "relaxed": "2"}) is Outcome.REJECTED
    assert outcome(cell, options={"cells": "1024", "relaxed": "1"}) is Outcome.REJECTED
    assert outcome(cell, options={"cells": "1024", "relaxed": "3"}) is Outcome.REJECTED
    assert check(sign(fields, {"cell": cell, "more": cell}), net).outcome is Outcome.MALFORMED


def test_misuse_is_refused_in_a_line() -> None:
    rng = np.random.default_rng(0)
    net, task = random_transformer(rng, k=3, v=3, layers=2), MaxOfK(3, 3)
    nothing = CellsWitness(np.full(27, -1, dtype=np.int32))
    with pytest.raises(OptionError, match="needs its witness"):
        cells(net, task, CellsOptions())
    with pytest.raises(OptionError, match="must be from 1 to"):
        CellsOptions(0)
    with pytest.raises(OptionError, match="relaxed = 0"):
        CellsOptions(relaxed=0)
    with pytest.raises(OptionError, match="relaxed = 3, but this model has 2 MLPs"):
        cells(net, task, CellsOptions(relaxed=3), witness=nothing)
    both = random_transformer(rng, k=3, v=3, layers=2, direction="bidirectional")
    with pytest.raises(OptionError, match="needs causal attention"):
        cells(both, task, CellsOptions(relaxed=2), witness=nothing)
    with pytest.raises(OptionError, match="27 cells by label, more than cells = 5"):
        cells(net, task, CellsOptions(5), witness=CellsWitness(np.arange(27, dtype=np.int32)))
    with pytest.raises(MalformedError, match="int32"):
        cells(net, task, CellsOptions(), witness=CellsWitness(np.zeros(27)))
    with pytest.raises(RejectedError, match="not proved right in its cell 7"):
        cells(net, task, CellsOptions(), witness=CellsWitness(np.full(27, 7, dtype=np.int32)))
    large = random_transformer(rng, k=21, v=2)
    with pytest.raises(OptionError, match="more than the 1048576"):
        prove(large, MaxOfK(21, 2), "cells")
    wide = random_transformer(rng, k=20, v=2, layers=2, d=16)
    with pytest.raises(OptionError, match="numbers, more than"):
        prove(wide, MaxOfK(20, 2), "cells")


def test_a_cell_too_wide_for_a_softmax_is_refused_not_believed() -> None:
    net = random_transformer(np.random.default_rng(5), k=2, v=3, layers=2, mlp=4)
    huge = [replace(net.blocks[0], W_out=1e4 * net.blocks[0].W_out), net.blocks[1]]
    net = replace(net, blocks=tuple(huge))
    one = CellsWitness(np.zeros(9, dtype=np.int32))
    with pytest.raises(RejectedError):
        cells(net, MaxOfK(2, 3), CellsOptions(relaxed=2), witness=one)
    proved = prove(net, MaxOfK(2, 3), "cells", {"relaxed": 2})
    assert proved.claim.correct <= brute_force_network(net, MaxOfK(2, 3), None).claim.correct
