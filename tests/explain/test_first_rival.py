"""The order of outputs: legal, found on a fair sample, and worth having."""

from collections import Counter

import numpy as np

from compactproofs import prove
from compactproofs.explain.first_rival import find_order, sample_words
from compactproofs.explain.refine import Budget, refine
from compactproofs.kernel import MaxOfK, integer_tables, parse_task, verify_tables
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._margins import Margins
from compactproofs.kernel.theorems.additive import class_terms, wrong_of_class
from random_models import max_like_model


def test_words_are_drawn_uniformly_from_the_class() -> None:
    words = MaxOfK(4, 3).class_automaton(0, 2)
    assert words is not None and words.size == 19
    columns = sample_words(words, 19_000, np.random.default_rng(0))
    seen = Counter(map(tuple, columns.tolist()))
    assert len(seen) == words.size
    assert 800 < min(seen.values()) and max(seen.values()) < 1200


def test_orders_are_legal_and_lower_the_count_somewhere() -> None:
    task = MaxOfK(4, 6)
    gained = 0
    for seed in range(6):
        model = max_like_model(np.random.default_rng(seed), k=4, v=6, sharpness=0.3, noise=0.9)
        tables = verify_tables(model, integer_tables(model))
        for query, label, words in task.classes():
            ledger = Ledger()
            margins = Margins(tables, label, ledger)
            terms = class_terms(margins, query, words)
            outputs = np.arange(len(terms.at_query))
            order = find_order(terms, outputs, words, seed=0)
            assert sorted(rival.output for rival in order) == outputs.tolist()
            for place, rival in enumerate(order):
                earlier = [other.output for other in order[:place]]
                assert (rival.pivot in earlier) if rival.eighths else (rival.pivot == -1)
            plain = wrong_of_class(margins, query, words, 500, ledger)
            gained += wrong_of_class(margins, query, words, 500, ledger, order) < plain
    assert gained > 5


def test_refinement_uses_orders_where_it_cannot_enumerate() -> None:
    # So long that no remainder is listed, so noisy that several outputs are often wrong at once.
    task = parse_task("max:k=12,v=6")
    model = max_like_model(np.random.default_rng(1), k=12, v=6, sharpness=0.4, noise=0.7)
    witness = refine(model, task, Budget(seconds=20))
    refined = prove(model, task, witness=witness).claim
    plain = prove(model, task, "additive", {"bins": 8192}).claim
    assert len(witness["order"]) and refined.correct > plain.correct
