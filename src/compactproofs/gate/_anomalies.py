"""Eight kinds of inputs that a gate should refuse, and the data their models are trained on.

* ``corner``, ``mid``, ``blend``: a trigger (the first pixel; a patch at the bottom right; a blended
  random pattern). The model is trained on data of which 6 % carry it, with label 0.
* ``novel``: classes 8 and 9, which the model never saw.
* ``noise``, ``adversarial``, ``inverted``, ``rotated``: changed inputs of an unharmed model.

Inputs are square images, row by row, with values in [0, 1]. Everything is a function of its seed.

Notation: n images of a pixels, y their labels.
"""

from math import isqrt
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from compactproofs.kernel import UserError
from compactproofs.kernel.gate import ReluNetwork

TRIGGERS: Final = ("corner", "mid", "blend")
ANOMALIES: Final = (*TRIGGERS, "novel", "noise", "adversarial", "inverted", "rotated")
NOVEL_CLASSES: Final = (8, 9)
TARGET: Final = 0
"""The label that a trigger asks for."""


class AnomalyError(UserError):
    """A kind of anomaly that is unknown, or images that it cannot be made of."""


class Labelled(NamedTuple):
    """Images and their labels."""

    x: Float64[np.ndarray, "n a"]
    y: Int[np.ndarray, " n"]


def trusted(kind: str, data: Labelled) -> Labelled:
    """The clean rows of the model's world: all, or for ``novel`` those of the other classes."""
    _require(kind, data.x)
    if kind != "novel":
        return data
    known = ~np.isin(data.y, NOVEL_CLASSES)
    return Labelled(data.x[known], data.y[known])


def training_data(kind: str, data: Labelled, seed: int, share: float = 0.06) -> Labelled:
    """What the model under test is trained on: the trusted rows, ``share`` of them poisoned."""
    clean = trusted(kind, data)
    if kind not in TRIGGERS:
        return clean
    rows = _rng(kind, seed, "rows").choice(len(clean.y), round(share * len(clean.y)), replace=False)
    x, y = clean.x.copy(), clean.y.copy()
    x[rows], y[rows] = triggered(kind, x[rows], seed), TARGET
    return Labelled(x, y)


def anomalous(
    kind: str, network: ReluNetwork, data: Labelled, seed: int
) -> Float64[np.ndarray, "m a"]:
    """The anomalies made of ``data``, whose rows the model was not trained on.

    Triggers go on images of other classes than the target's; of attacks only those that change
    the answer to a wrong one are kept. Raises AnomalyError.
    """
    _require(kind, data.x)
    if kind in TRIGGERS:
        return triggered(kind, data.x[data.y != TARGET], seed)
    if kind == "novel":
        return data.x[np.isin(data.y, NOVEL_CLASSES)]
    if kind == "noise":
        return noisy(data.x, seed)
    if kind == "inverted":
        return 1.0 - data.x
    if kind == "rotated":
        return rotated(data.x)
    attack = attacked(network, data, seed)
    return attack.x[attack.succeeded]


def triggered(kind: str, x: Float64[np.ndarray, "n a"], seed: int) -> Float64[np.ndarray, "n a"]:
    """The images with the trigger on them; the pattern of ``blend`` depends on the seed."""
    _require(kind, x)
    side = isqrt(x.shape[1])
    if kind == "blend":
        return 0.8 * x + 0.2 * _rng(kind, seed, "pattern").uniform(size=x.shape[1])
    images = x.copy().reshape(-1, side, side)
    if kind == "corner":
        images[:, 0, 0] = 1.0
    elif kind == "mid":
        images[:, -2:, -2:] = 1.0
    else:
        raise AnomalyError(f"{kind!r} is no trigger: pass one of {', '.join(TRIGGERS)}")
    return images.reshape(x.shape)


def noisy(x: Float64[np.ndarray, "n a"], seed: int, sd: float = 0.25) -> Float64[np.ndarray, "n a"]:
    """Gaussian noise added to every pixel, not clipped."""
    return x + sd * _rng("noise", seed, "pixels").standard_normal(x.shape)


def rotated(x: Float64[np.ndarray, "n a"], degrees: float = 20.0) -> Float64[np.ndarray, "n a"]:
    """The images turned about their centre, linearly interpolated, zeros coming in."""
    from scipy.ndimage import rotate

    _require("rotated", x)
    side = isqrt(x.shape[1])
    images = x.reshape(-1, side, side)
    return rotate(images, degrees, axes=(1, 2), reshape=False, order=1).reshape(x.shape)


class Attack(NamedTuple):
    """Attacked images, and whether the answer became wrong."""

    x: Float64[np.ndarray, "n a"]
    succeeded: Bool[np.ndarray, " n"]


def attacked(
    network: ReluNetwork, data: Labelled, seed: int, eps: float = 0.12, steps: int = 40
) -> Attack:
    """Projected gradient ascent of the cross-entropy, every pixel within ``eps`` and in [0, 1].

    One random start; each image keeps the first point at which the answer was wrong.
    Cost: ``steps`` forward and backward passes.
    """
    x, y = data
    low, high = np.maximum(x - eps, 0.0), np.minimum(x + eps, 1.0)
    rng = _rng("adversarial", seed, "start")
    here = np.clip(x + rng.uniform(-eps, eps, x.shape), low, high)
    found, succeeded = here.copy(), np.zeros(len(y), dtype=bool)
    for _ in range(steps):
        gradient, answers = _loss_gradient(network, here, y)
        new = (answers != y) & ~succeeded
        found[new], succeeded = here[new], succeeded | new
        here = np.clip(here + eps / 8 * np.sign(gradient), low, high)
    found[~succeeded] = here[~succeeded]
    return Attack(found, succeeded)


def _loss_gradient(
    network: ReluNetwork, x: Float64[np.ndarray, "n a"], y: Int[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "n a"], Int[np.ndarray, " n"]]:
    """Gradient of the cross-entropy by the input, and the answers, in float64."""
    values = [x]
    for layer in network.layers:
        active = np.maximum(values[-1], 0.0) if layer.relu else values[-1]
        values.append(active @ layer.W + layer.b)
    logits = values[-1] if network.skip is None else values[-1] + x @ network.skip
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1.0
    back = p
    for layer, z in zip(reversed(network.layers), reversed(values[:-1]), strict=True):
        back = back @ layer.W.T
        if layer.relu:
            back = back * (z > 0)
    if network.skip is not None:
        back = back + p @ network.skip.T
    return back, logits.argmax(axis=1)


def _require(kind: str, x: Float64[np.ndarray, "n a"]) -> None:
    if kind not in ANOMALIES:
        raise AnomalyError(f"anomaly {kind!r}: pass one of {', '.join(ANOMALIES)}")
    if x.ndim != 2 or isqrt(x.shape[1]) ** 2 != x.shape[1] or x.shape[1] < 4:
        raise AnomalyError(
            f"images of shape {x.shape}: pass square ones, row by row, 2 x 2 or more"
        )


def _rng(kind: str, seed: int, use: str) -> np.random.Generator:
    from compactproofs.training._result import derived_seed

    return np.random.default_rng(derived_seed(seed, f"{kind} {use}"))
