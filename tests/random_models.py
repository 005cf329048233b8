"""Models to attack theorems with: random ones of every temperament, and hostile ones by name."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from compactproofs.kernel import Model

_TENSORS = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U", "b_Q", "b_K", "b_V", "b_O", "b_U")


def float32(values: np.ndarray) -> np.ndarray:
    """The nearest numbers that a float32 model file could hold, as float64."""
    return values.astype(np.float32).astype(np.float64)


def random_model(
    rng: np.random.Generator,
    *,
    k: int,
    v: int,
    d: int,
    h: int,
    outputs: int | None = None,
    scale: float = 1.0,
    weights: float = 1.0,
    biases: bool = False,
    divisor_squared: Fraction | None = None,
) -> Model:
    """Gaussian weights that float32 can hold.

    Scores have a standard deviation of about ``scale`` nats (0.1: near uniform attention; 30:
    saturated); values and direct logits are of order 1. ``weights`` multiplies the embeddings, so
    it multiplies logits by itself and scores by its square.
    """
    x = v if outputs is None else outputs

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) / shape[0] ** 0.5

    per_side = (scale * h**0.5) ** 0.5
    embedding = weights * rng.normal(size=(v, d))
    position = weights * rng.uniform(0.1, 1.5) * rng.normal(size=(k, d))
    tensors = {
        "W_E": embedding,
        "W_pos": position,
        "W_Q": per_side * normal(d, h),
        "W_K": per_side * normal(d, h) / h**0.5,
        "W_V": normal(d, h),
        "W_O": rng.uniform(0.5, 3.0) * normal(h, d),
        "W_U": normal(d, x),
        "b_Q": per_side * rng.normal(size=h),
        "b_K": rng.normal(size=h),
        "b_V": rng.normal(size=h),
        "b_O": rng.normal(size=d),
        "b_U": rng.normal(size=x),
    }
    if not biases:
        tensors |= {name: np.zeros_like(tensors[name]) for name in tensors if name[0] == "b"}
    return model_of(divisor_squared or Fraction(h), **tensors)


def model_of(divisor_squared: Fraction = Fraction(1), **tensors: np.ndarray) -> Model:
    """A kernel model straight from arrays (rounded to float32); missing biases are zero."""
    d, x = tensors["W_U"].shape
    h = tensors["W_Q"].shape[1]
    zero = {"b_Q": h, "b_K": h, "b_V": h, "b_O": d, "b_U": x}
    full = {name: np.zeros(size) for name, size in zero.items()} | tensors
    rounded: dict[str, Any] = {
        name: float32(np.asarray(full[name], dtype=np.float64)) for name in _TENSORS
    }
    return Model(score_divisor_squared=divisor_squared, **rounded)


def max_like_model(
    rng: np.random.Generator, *, k: int, v: int, sharpness: float = 2.0, noise: float = 0.3
) -> Model:
    """A model that mostly answers the largest token: one-hot embeddings, attention rises with it.

    ``d = v + 1``: the last direction is 1 for every token, so that the query can be constant.
    """
    d = v + 1
    embedding = np.hstack([np.eye(v), np.ones((v, 1))])
    key = np.vstack([sharpness * np.arange(v)[:, None], np.zeros((1, 1))])
    values = np.vstack([np.eye(v), np.zeros((1, v))])  # [d, h = v]
    padded = np.zeros((d, v))
    return model_of(
        W_E=embedding,
        W_pos=0.2 * noise * rng.normal(size=(k, d)),
        W_Q=np.hstack([np.vstack([np.zeros((v, 1)), np.ones((1, 1))]), padded[:, 1:]]),
        W_K=np.hstack([key, padded[:, 1:]]),
        W_V=values,
        W_O=3.0 * np.eye(v, d) + 0.1 * noise * rng.normal(size=(v, d)),
        W_U=np.vstack([np.eye(v), np.zeros((1, v))]) + noise * rng.normal(size=(d, v)),
    )


def vote_model(k: int, v: int) -> Model:
    """Uniform attention, logit(x) = share of tokens equal to x: ties between unequal terms.

    Tokens are read from the first ``v`` directions and written to the last ``v``.
    """
    nothing = np.zeros((v, v))
    read, write = np.vstack([np.eye(v), nothing]), np.hstack([nothing, np.eye(v)])
    return model_of(
        W_E=np.hstack([np.eye(v), nothing]),
        W_pos=np.zeros((k, 2 * v)),
        W_Q=0 * read,
        W_K=0 * read,
        W_V=read,
        W_O=write,
        W_U=write.T,
    )


def hostile_models(rng: np.random.Generator, k: int = 3, v: int = 4) -> dict[str, Model]:
    """One model of each kind that breaks careless bounds, by name."""

    def random(**settings: Any) -> Model:
        return random_model(rng, **{"k": k, "v": v, "d": 3, "h": 2, "biases": True} | settings)

    def change(model: Model, **edits: Callable[[np.ndarray], np.ndarray]) -> Model:
        return replace(
            model, **{name: float32(edit(getattr(model, name))) for name, edit in edits.items()}
        )

    def zero(values: np.ndarray) -> np.ndarray:
        return np.zeros_like(values)

    def times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda values: values * factor

    def repeat_first(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values[..., :1], values[..., :1], values[..., 2:]], axis=-1)

    good = max_like_model(rng, k=k, v=v)
    return {
        "outputs 0 and 1 equal": change(good, W_U=repeat_first, b_U=repeat_first),
        "tokens 0 and 1 equal": change(random(), W_E=lambda e: repeat_first(e.T).T),
        "positions equal": change(random(), W_pos=lambda p: p[:1] + zero(p)),
        "no attention output": change(random(), W_O=zero),
        "no attention output, no direct path": change(random(), W_O=zero, W_U=zero, b_U=zero),
        "one answer to everything": change(random(weights=0.0), b_O=zero, b_U=zero),
        "votes": vote_model(k, v),
        "constant attention": change(random(), W_Q=zero, b_Q=zero),
        "attention to one position": change(
            random(), W_pos=lambda p: p * np.where(np.arange(k) == 0, 40.0, 1.0)[:, None]
        ),
        "attention saturated": random(scale=1000.0),
        "huge": random(weights=3e4),
        "tiny": random(weights=1e-15),
        "subnormal": change(random(weights=1e-3), W_E=times(1e-40), W_pos=times(1e-41)),
        "subnormal values": change(random(), W_V=times(1e-41), W_U=times(1e-42)),
        "common offset of the logits": change(good, b_U=lambda b: b + 2.0**30),
        "huge logits that cancel": _cancelling(good, 2.0**20),
        "float32 limits": change(random(), W_U=times(1e37), b_U=times(1e37)),
    }


def _cancelling(model: Model, size: float) -> Model:
    # Every value carries +size for output x, and b_O takes it away again: o + h cancels.
    extra = np.ones((1, model.d_vocab_out)) * size * (1 + np.arange(model.d_vocab_out))
    d, h = model.W_Q.shape
    return model_of(
        model.score_divisor_squared,
        W_E=np.pad(model.W_E, ((0, 0), (0, 1))),
        W_pos=np.pad(model.W_pos, ((0, 0), (0, 1))),
        W_Q=np.pad(model.W_Q, ((0, 1), (0, 1))),
        W_K=np.pad(model.W_K, ((0, 1), (0, 1))),
        W_V=np.pad(model.W_V, ((0, 1), (0, 1))),
        W_O=np.block([[model.W_O, np.zeros((h, 1))], [np.zeros((1, d)), np.ones((1, 1))]]),
        W_U=np.vstack([model.W_U, extra]),
        b_V=np.append(model.b_V, 1.0),
        b_O=np.append(model.b_O, -1.0),
        b_Q=np.append(model.b_Q, 0.0),
        b_K=np.append(model.b_K, 0.0),
        b_U=model.b_U,
    )
