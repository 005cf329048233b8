"""What one layer with neurons answers: float64 where that is beyond doubt, Arb elsewhere."""

from typing import Any, NamedTuple

import numpy as np

from exact_networks import exact_logits

from .truth import Labels, all_sequences


class Answers(NamedTuple):
    """Of every sequence."""

    tokens: np.ndarray  # [n, k]
    label: np.ndarray  # [n]
    right: np.ndarray  # [n]; what 300 bits leave open counts as wrong
    z: np.ndarray  # [n, m]: what reaches the neurons, in float64


def answers(net: Any, labels: Labels) -> Answers:
    """All sequences of a transformer of one layer with one head."""
    tokens = all_sequences(net.n_ctx, net.d_vocab)
    label = labels(tokens)
    logits, error, z = _forward(net, tokens)
    rows = np.arange(len(tokens))
    others = logits.copy()
    others[rows, label] = -np.inf
    margin = others.max(axis=1) - logits[rows, label]
    right = margin < 0
    near = np.flatnonzero(~(np.abs(margin) > 2 * error)) if net.d_vocab_out > 1 else []
    for n, exact in zip(near, exact_logits(net, tokens[near]), strict=True):
        own = exact[int(label[n])]
        right[n] = all(bool(own > one) for x, one in enumerate(exact) if x != label[n])
    return Answers(tokens, label, right, z)


def _forward(net: Any, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, a generous bound on the error of each row, and the neurons' inputs."""
    block = net.blocks[0]
    root = float(net.score_divisor_squared) ** 0.5

    def parts(a: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        residual = a(net.W_E)[tokens] + a(net.W_pos)
        query = residual[:, -1] @ a(block.W_Q[0]) + a(block.b_Q[0])
        key = residual @ a(block.W_K[0]) + a(block.b_K[0])
        value = residual @ a(block.W_V[0]) + a(block.b_V[0])
        return residual[:, -1], value, np.einsum("nh,nih->ni", query, key) / root

    def rest(a: Any, residual: np.ndarray, mixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mid = residual + mixed @ a(block.W_O[0]) + a(block.b_O)
        z = mid @ a(block.W_in) + a(block.b_in)
        post = mid + np.maximum(z, 0) @ a(block.W_out) + a(block.b_out)
        return z, post @ a(net.W_U) + a(net.b_U)

    residual, value, score = parts(lambda w: w)
    raised = np.exp(score - score.max(axis=1, keepdims=True))
    pattern = raised / raised.sum(axis=1, keepdims=True)
    z, logits = rest(lambda w: w, residual, np.einsum("ni,nih->nh", pattern, value))
    # With sizes for numbers every sum becomes the sum of the sizes of its terms.
    sizes, value_sizes, score_sizes = parts(np.abs)
    most = rest(np.abs, sizes, value_sizes.max(axis=1))[1].max(axis=1)
    unit = 2.0**-49 * (8 + 4 * net.d_model + 4 * block.W_Q.shape[2] + net.n_ctx + 4 * block.d_mlp)
    off = np.expm1(np.minimum(4 * unit * score_sizes.max(axis=1), 700.0)) + unit
    return logits, (off + unit) * most * (1 + unit) + 1e-290, z
