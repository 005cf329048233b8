"""The laws of float32 semantics: the tables are as wide as T9 says, and that is wide enough.

*Stated*: the envelope of docs/theory.md section 5 written down again in rational numbers; the
kernel's tables must contain it and not be wider. *Enough*: whatever is proved of a class holds in
every evaluation of ``float32_evaluations``.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from compactproofs.kernel import Model
from kernel.exact import Rationals, ends, exact_tables, rational_root, rationals
from random_models import float32, hostile_models, max_like_model, model_of, random_model

from .float32_evaluations import evaluate, right, styles
from .tasks import automaton_task
from .truth import all_sequences, float_logits

EVALUATIONS = 12


class Float32Case(NamedTuple):
    """A model and the label of each sequence: what it answers itself, so that margins are small."""

    name: str
    model: Model
    tokens: np.ndarray
    label: np.ndarray
    right: np.ndarray
    """Whether every evaluation finds the label, sequence by sequence."""
    wrong: np.ndarray
    """Whether every evaluation fails to."""


def _rounding_matters(rng: np.random.Generator, n: int) -> Model:
    """A random model in which one stage loses most digits to numbers that cancel."""
    k, v, d, h = (3, 3, 3, 2) if n % 2 else (2, 4, 2, 1)
    model = random_model(rng, k=k, v=v, d=d, h=h, biases=True, scale=2.0)
    weights = {name: getattr(model, name) for name in vars(model) if name[1] == "_"}
    big = 2.0 ** float(rng.uniform(16, 23))
    zero = np.zeros((1, 1))
    match n % 6:
        case 0:  # keys share a large part: scores cancel between tokens
            weights["b_K"] = weights["b_K"] + 8 * big
        case 1:  # values share a large part, which b_O takes away
            weights["b_V"] = weights["b_V"] + big
            weights["b_O"] = weights["b_O"] - weights["b_V"] @ weights["W_O"]
        case 2:  # logits share a large part
            weights["b_U"] = weights["b_U"] + big
        case 3:  # the residual stream is large where nothing reads it but W_U, twice
            weights["W_E"] = np.hstack([weights["W_E"], big * np.ones((v, 1))])
            weights["W_pos"] = np.hstack([weights["W_pos"], np.zeros((k, 1))])
            for name in ("W_Q", "W_K", "W_V"):
                weights[name] = np.vstack([weights[name], np.zeros((1, h))])
            weights["W_O"] = np.hstack([weights["W_O"], np.zeros((h, 1))])
            weights["b_O"] = np.append(weights["b_O"], 0.0)
            weights["W_U"] = np.vstack([weights["W_U"], np.ones((1, v)) + zero])
        case 4:  # queries and keys cancel inside the dot product
            weights["W_Q"] = np.hstack([weights["W_Q"], big**0.5 * np.ones((d, 2))])
            weights["b_Q"] = np.append(weights["b_Q"], [0.0, 0.0])
            weights["W_K"] = np.hstack(
                [weights["W_K"], big**0.5 * np.ones((d, 1)), -(big**0.5) * np.ones((d, 1))]
            )
            weights["b_K"] = np.append(weights["b_K"], [0.0, 0.0])
            for name, axis in (("W_V", 1), ("W_O", 0)):
                pad = [(0, 0), (0, 0)]
                pad[axis] = (0, 2)
                weights[name] = np.pad(weights[name], pad)
            weights["b_V"] = np.append(weights["b_V"], [0.0, 0.0])
        case _:  # the residual stream shares a large part that every reader projects away
            weights["W_E"] = weights["W_E"] + big / 8
            for name in ("W_Q", "W_K", "W_V", "W_U"):
                weights[name] = weights[name] - float32(weights[name].mean(axis=0))
    return model_of(Fraction(1), **weights)


def _always(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which sequences are right in every evaluation ``[evaluations, n]``, and which in none."""
    return np.asarray(found.all(axis=0)), np.asarray((~found).all(axis=0))


def flushed_model(score: float) -> Model:
    """All scores equal; values of 2^-41 that ``W_O`` makes 1: lost where products are flushed."""
    return model_of(
        W_E=np.array([[1.0, 0, 0], [1, 1, 0]]),
        W_pos=np.zeros((2, 3)),
        W_Q=np.array([[1.0], [0], [0]]),
        W_K=np.array([[score], [0], [0]]),
        W_V=np.array([[0.0], [2.0**-41], [0]]),
        W_O=np.array([[0.0, 0, 2.0**41]]),
        W_U=np.array([[0.0, 0], [0, 0], [0, 1]]),
        b_U=np.array([0.0, -0.25]),
    )


@cache
def float32_cases() -> tuple[Float32Case, ...]:
    """Models whose own answers are the labels, by themselves and under every evaluation."""
    rng = np.random.default_rng(32)
    models = {f"cancelling {n}": _rounding_matters(rng, n) for n in range(36)}
    models |= {f"random {n}": random_model(rng, k=3, v=3, d=2, h=1, biases=True) for n in range(3)}
    models["like max"] = max_like_model(rng, k=3, v=3)
    # Without subtracting the largest score, tiny weighted values are flushed before division.
    models["flushed"] = flushed_model(-39.5)
    cases: list[Float32Case] = []
    for n, (name, model) in enumerate(models.items()):
        tokens = all_sequences(model.n_ctx, model.d_vocab)
        label = float_logits(model, tokens)[0].argmax(axis=1)
        found = np.stack(
            [
                right(evaluate(model, tokens, label, style), label)
                for style in styles(EVALUATIONS, seed=n)
            ]
        )
        cases.append(Float32Case(name, model, tokens, label, *_always(found)))
    return tuple(cases)


def evaluations(kernel: ModuleType) -> Iterator[str]:
    """What is proved of a class is right in every evaluation, what is called wrong in none."""
    for case in float32_cases():
        model = kernel.Model(**vars(case.model))
        v = model.d_vocab
        task = _own_answers(kernel, case)
        tables = kernel.verify_tables(model, kernel.integer_tables(model, "float32"), "float32")
        options = kernel.AdditiveOptions()
        everything = np.full((v, tables.d_vocab_out), -2, dtype=np.int32)
        witness = kernel.EffortWitness(everything, np.zeros((0, 6), dtype=np.int32))
        proofs = (
            kernel.brute_force(tables, task, kernel.BruteForceOptions()),
            kernel.additive(tables, task, options),
            kernel.additive(tables, task, options, witness=witness),
            kernel.windowed(tables, task, kernel.WindowedOptions(2)),
            kernel.collapsed_cubic(tables, task, kernel.CollapsedCubicOptions()),
            kernel.collapsed_subcubic(tables, task, kernel.CollapsedSubcubicOptions(2)),
        )
        for proved in proofs:
            yield from _exceeded(case, proved)
        claim = proofs[0].claim
        called_wrong = claim.total - claim.correct - claim.undecided
        possibly_wrong = int((~case.right | (case.label < 0)).sum())
        if called_wrong > possibly_wrong:
            yield f"{case.name}: {called_wrong} called wrong, at most {possibly_wrong} are"
    for case in _like_max():
        model = kernel.Model(**vars(case.model))
        tables = kernel.verify_tables(model, kernel.integer_tables(model, "float32"), "float32")
        task = kernel.MaxOfK(model.n_ctx, model.d_vocab)
        yield from _exceeded(case, kernel.cubic(tables, task, kernel.CubicOptions()))


def _own_answers(kernel: ModuleType, case: Float32Case) -> Any:
    """The task whose labels are the case's, by an automaton that remembers all tokens."""
    answers = dict(zip(map(tuple, case.tokens.tolist()), case.label.tolist(), strict=True))
    k, v = case.tokens.shape[1], case.model.d_vocab
    return automaton_task(
        kernel, "own", k, v, (), lambda s, t: (*s, t)[:k], lambda s: answers.get(s, 0)
    )


def narrow_tables(kernel: ModuleType) -> Iterator[str]:
    """Tables of the real numbers alone are refused as tables of float32 evaluations."""
    for case in float32_cases():
        if not case.name.startswith("random"):  # elsewhere the unit may be coarser than rounding
            continue
        model = kernel.Model(**vars(case.model))
        real = kernel.integer_tables(model)
        wide = kernel.integer_tables(model, "float32")
        for claimed in (
            real,
            wide._replace(value_low=real.value_low, grid=real.grid),
            wide._replace(weight_low=real.weight_low, weight_exponent=real.weight_exponent),
        ):
            try:
                kernel.verify_tables(model, claimed, "float32")
            except kernel.RejectedError:
                continue
            yield f"{case.name}: tables too narrow for float32 are accepted"


@cache
def _like_max() -> tuple[Float32Case, ...]:
    """Models of max-of-k that large numbers make sensitive to rounding: for the cubic theorem."""
    rng = np.random.default_rng(33)
    cases: list[Float32Case] = []
    for n in range(8):
        model = max_like_model(rng, k=3, v=3, noise=0.6)
        weights = {name: getattr(model, name) for name in vars(model) if name[1] == "_"}
        big = 2.0 ** float(rng.uniform(14, 22))
        if n % 2:
            weights["b_K"] = weights["b_K"] + big
        else:
            weights["b_U"] = weights["b_U"] + big
        model = model_of(model.score_divisor_squared, **weights)
        tokens = all_sequences(3, 3)
        label = tokens.max(axis=1)
        found = np.stack(
            [right(evaluate(model, tokens, label, s), label) for s in styles(EVALUATIONS, seed=n)]
        )
        cases.append(Float32Case(f"like max {n}", model, tokens, label, *_always(found)))
    return tuple(cases)


def _exceeded(case: Float32Case, proved: Any) -> Iterator[str]:
    if proved.claim.semantics != "float32":
        yield f"{case.name}: the claim is about {proved.claim.semantics} numbers"
    for q, m, _, correct in proved.by_class:
        here = (case.tokens[:, -1] == q) & (case.label == m)
        always = int((here & case.right).sum())
        if correct > always:
            yield (
                f"{case.name}: {proved.claim.theorem} proves {correct} of class ({q}, {m}), some "
                f"float32 evaluation gets only {always} right"
            )


class ExactEnvelope(NamedTuple):
    """Fractions, as ``_float32.Envelope``."""

    scores: Rationals
    values: Rationals
    direct: Rationals


def exact_envelope(model: Model) -> ExactEnvelope:
    """docs/theory.md section 5, number by number; the score's divisor must be rational."""
    W: dict[str, Any] = {n: rationals(getattr(model, n)) for n in vars(model) if n[1] == "_"}
    tiny, k, v, x = Fraction(1, 2**50), model.n_ctx, model.d_vocab, model.d_vocab_out
    d, h = model.W_Q.shape
    sigma = rational_root(model.score_divisor_squared)

    def g(n: int) -> Fraction:
        return n * (Fraction(1, 2**24) + Fraction(1, 2**34))

    def size(values: Rationals) -> Rationals:
        return np.abs(values) + tiny

    def project(row: Rationals, W_: str, b: str) -> tuple[Rationals, Rationals]:
        return row.dot(W[W_]) + W[b], g(d + 2) * (size(row).dot(size(W[W_])) + size(W[b]))

    L = np.full((v, v), Fraction(0), dtype=object)
    e_o = np.empty((k, v, x), dtype=object)
    a = np.empty((k, v, x), dtype=object)
    for i in range(k):
        for t in range(v):
            r = W["W_E"][t] + W["W_pos"][i]
            key, e_key = project(r, "W_K", "b_K")
            for q in range(v):
                query, e_query = project(W["W_E"][q] + W["W_pos"][k - 1], "W_Q", "b_Q")
                with_errors = (size(query) + e_query).dot(size(key) + e_key) * (1 + g(h + 4))
                distance = (with_errors - np.abs(query).dot(np.abs(key))) / sigma
                L[q, t] = max(L[q, t], distance)
            value, e_value = project(r, "W_V", "b_V")
            o = value.dot(W["W_O"])
            e = (size(value) + e_value).dot(size(W["W_O"])) * (1 + g(2 * k + h + 6))
            e = e - np.abs(value).dot(np.abs(W["W_O"]))
            a[i, t] = (size(o) + e).dot(size(W["W_U"])) * (1 + g(d + 1))
            e_o[i, t] = a[i, t] - np.abs(o).dot(np.abs(W["W_U"]))
    e_h = np.empty((v, x), dtype=object)
    for q in range(v):
        r = W["W_E"][q] + W["W_pos"][k - 1]
        c = r + W["b_O"]
        e_c = g(h + 3) * (size(r) + size(W["b_O"]))
        e_h[q] = (size(c) + e_c).dot(size(W["W_U"])) * (1 + g(d + 1))
        e_h[q] = e_h[q] - np.abs(c).dot(np.abs(W["W_U"])) + g(d + 1) * size(W["b_U"])
        e_h[q] = e_h[q] + Fraction(k, 2**36) * a.max(axis=(0, 1))
    return ExactEnvelope(L + Fraction(1, 2**15), e_o, e_h)


@cache
def _stated() -> tuple[tuple[str, Model, Any, ExactEnvelope], ...]:
    rng = np.random.default_rng(34)
    square = Fraction(9, 4)
    models = {
        f"random {n}": random_model(
            rng, k=2, v=3, d=3, h=2, outputs=4, biases=True, divisor_squared=square
        )
        for n in range(2)
    }
    models |= {
        name: model_of(square, **{n: getattr(model, n) for n in vars(model) if n[1] == "_"})
        for name, model in hostile_models(rng, k=2, v=3).items()
        if name in ("huge", "tiny", "subnormal", "huge logits that cancel", "votes")
    }
    return tuple(
        (name, model, exact_tables(model), exact_envelope(model)) for name, model in models.items()
    )


def stated_envelope(kernel: ModuleType) -> Iterator[str]:
    """Both of the kernel's ways to widen tables contain the stated envelope, and hardly more."""
    for name, model, tables, envelope in _stated():
        copy = kernel.Model(**vars(model))
        balls = kernel._tables.enclose_tables(copy, kernel._ledger.Ledger(), "float32")
        arbs = kernel._tables_arb.arb_tables(copy, 200, "float32")
        wide = np.broadcast_to(envelope.scores, tables.scores.shape)
        radii = (wide, envelope.values, envelope.direct)
        for part, ball, by_arb, centre, radius in zip(
            tables._fields, balls, arbs, tables, radii, strict=True
        ):
            for at in np.ndindex(centre.shape):
                entry: Any = by_arb
                for index in at:
                    entry = entry[index]
                for way, (low, high) in (
                    ("float64", (Fraction(ball.lower()[at]), Fraction(ball.upper()[at]))),
                    ("Arb", ends(entry)),
                ):
                    inner = centre[at] - radius[at], centre[at] + radius[at]
                    slack = radius[at] / 10**4 + abs(centre[at]) / 10**12
                    if not inner[0] - slack <= low <= inner[0]:
                        yield f"{name}: {part} {at} by {way} begins at {float(low)}"
                    if not inner[1] <= high <= inner[1] + slack:
                        yield f"{name}: {part} {at} by {way} ends at {float(high)}"
