"""Questions that describe the strongest feature of a crosscoder."""

import numpy as np
import pytest

from compactproofs.crosscoders import CrosscoderError, default_sites, inputs_of
from compactproofs.crosscoders.predicates import questions_of
from compactproofs.explain._cell_tree import query_in
from compactproofs.explain.cells import find_cells
from compactproofs.kernel import MaxOfK, SumModV, parse_task
from compactproofs.kernel.theorems import CrosscoderDOptions, crosscoder_d
from compactproofs.kernel.theorems.crosscoder_d import CellWitness
from lookup_crosscoder import lookup_crosscoder
from transformers_for_tests import random_transformer


def test_a_feature_of_the_query_is_told_by_a_question_about_it() -> None:
    # Sums of two tokens: the label and the query say everything, and the label alone nothing.
    net = random_transformer(np.random.default_rng(5), k=2, v=2, mlp=4)
    task = SumModV(2, 2)
    tokens, _ = inputs_of(task, 100)
    own = lookup_crosscoder(net, default_sites(net), tokens)
    (question,) = questions_of(net, task, own)
    # Tokens are 0 and 1: which of the two is asked does not matter, the other follows.
    assert question == query_in([1]) or question.tokens == {1}


def test_nothing_is_asked_where_the_label_tells_the_feature() -> None:
    net = random_transformer(np.random.default_rng(5), k=1, v=4, mlp=4)
    task = MaxOfK(1, 4)
    tokens, _ = inputs_of(task, 100)
    assert questions_of(net, task, lookup_crosscoder(net, default_sites(net), tokens)) == []


def test_questions_are_few_and_any_are_sound() -> None:
    net = random_transformer(np.random.default_rng(6), k=3, v=3, mlp=5)
    task = parse_task("max:k=3,v=3")
    tokens, _ = inputs_of(task, 100)
    own = lookup_crosscoder(net, default_sites(net), tokens)
    questions = questions_of(net, task, own, most=2)
    assert len(questions) == 2 and len(set(questions)) == 2
    options = CrosscoderDOptions()
    witness = find_cells(net, task, options, questions=questions)
    with_questions = crosscoder_d(net, task, options, witness=CellWitness(**witness))
    without = find_cells(net, task, options)
    assert with_questions.claim.correct == (
        crosscoder_d(net, task, options, witness=CellWitness(**without)).claim.correct
    )


def test_a_crosscoder_without_the_residual_before_the_mlp_is_refused() -> None:
    net = random_transformer(np.random.default_rng(5), k=2, v=2, mlp=4)
    tokens, _ = inputs_of(MaxOfK(2, 2), 100)
    own = lookup_crosscoder(net, ["blocks.0.hook_resid_post"], tokens)
    with pytest.raises(CrosscoderError, match=r"features at blocks.0.hook_resid_mid"):
        questions_of(net, MaxOfK(2, 2), own)
