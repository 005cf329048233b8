"""Questions about tokens that tell a crosscoder's strongest feature: cells for theorem D.

Theorem D splits the sequences of a label by questions about their tokens and asks nobody where the
questions come from. Here the strongest feature of each input is described by a few of them, chosen
one by one: always the question that leaves the least entropy of the feature, given the label and
the answers so far.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64

from ..explain._cell_tree import Question, at_least, query_in, token_in
from ..kernel import Task, Transformer
from ._activations import inputs_of, require_own_crosscoder, residuals
from ._crosscoder import Crosscoder
from ._errors import CrosscoderError

_SAMPLE = 1 << 13
_LEAST_GAIN = 0.01  # bits; below, a question says nothing


def questions_of(
    net: Transformer, task: Task, crosscoder: Crosscoder, *, most: int = 3, seed: int = 0
) -> list[Question]:
    """At most ``most`` questions, the most telling first; none if the label tells the feature.

    Looks at a sample of inputs. Raises CrosscoderError for a crosscoder of another model, or
    without the residual before the last MLP. Cost: forward passes of the sample, and O(k v) looks
    at it for each question.
    """
    require_own_crosscoder(crosscoder.config, net)
    names = [site.name for site in crosscoder.config.sites]
    mid = f"blocks.{len(net.blocks) - 1}.hook_resid_mid"
    if mid not in names:
        raise CrosscoderError(
            f"the crosscoder has the sites {', '.join(names)}: cells are proposed by features at "
            f"{mid}"
        )
    tokens, labels = inputs_of(task, _SAMPLE, seed)
    codes = crosscoder.encode(residuals(net, tokens, names))
    size = np.linalg.norm(crosscoder.W_dec[:, names.index(mid)], axis=1)
    strongest = np.argmax(codes * size, axis=1)
    known = labels
    found: list[Question] = []
    while len(found) < most:
        candidates = [(q, answers) for q, answers in _candidates(task, tokens) if q not in found]
        left = [_entropy(known, answers, strongest) for _, answers in candidates]
        nothing = np.zeros(len(tokens), dtype=bool)
        if not left or _entropy(known, nothing, strongest) - min(left) < _LEAST_GAIN:
            break
        question, answers = candidates[int(np.argmin(left))]
        found.append(question)
        known = np.unique(2 * known + answers, return_inverse=True)[1].reshape(-1)
    return found


def _candidates(
    task: Task, tokens: Int64[np.ndarray, "n k"]
) -> Iterator[tuple[Question, Bool[np.ndarray, " n"]]]:
    """Questions, and what every sequence answers: is a token at least t, do several equal t."""
    v, words = task.v, tokens[:, :-1]
    for t in range(1, v):
        above = range(t, v)
        yield query_in(above), tokens[:, -1] >= t
        for position in range(task.k - 1):
            yield token_in(position, above), tokens[:, position] >= t
        for least in range(1, min(task.k, 4)):
            yield at_least(least, above), (words >= t).sum(axis=1) >= least


def _entropy(
    known: Int64[np.ndarray, " n"],
    answers: Bool[np.ndarray, " n"],
    feature: Int64[np.ndarray, " n"],
) -> float:
    """Bits of the feature that are left when ``known`` and the answers are given."""
    given = 2 * known + answers
    pairs = np.unique(np.column_stack([given, feature]), axis=0, return_counts=True)[1]
    groups = np.unique(given, return_counts=True)[1]
    return (_total(pairs) - _total(groups)) / len(known)


def _total(counts: Int64[np.ndarray, " c"]) -> float:
    """The sum of ``-c log2 c``; ``-sum p log p`` but for what cancels in a difference."""
    return -float((counts * np.log2(counts)).sum())
