"""An enemy that makes up weights: a search for models of which a theorem proves too much.

Raising the logit of one label is a dial: sequence by sequence it is known by how much it must be
turned before the model is right (its margin), and a theorem that proves ``j`` sequences of a class
must not do so before ``j`` of them are. The *gap* is how much later it does, in units of the
model's own logits. Every step changes weights, bounds and choices a little and sets the dial to a
smaller gap than the best so far, or just below 0, where proving would be false: one run of the
theorem tells whether the step is an advance. Rounding decides at gaps of ``2^-29``, so the dial has
a coarse and a fine part, both float32 numbers.

For float32 semantics the place of the gap is taken by a share: how far some float32 evaluation
departs from the real numbers, in parts of the distance at which the theorem first proves.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from compactproofs import kernel as our_kernel
from compactproofs.explain.subcubic import find_directions
from compactproofs.kernel import Model
from compactproofs.kernel.theorems._attention_error import ATTENTION_ERRORS
from compactproofs.kernel.theorems._direct_path import DIRECT_PATHS
from compactproofs.kernel.theorems.subcubic import AVERAGINGS
from random_models import float32, max_like_model, model_of

from .copies import Edit
from .float32_evaluations import evaluate, styles
from .mutants import MUTANTS
from .tasks import make_task, task_names
from .truth import all_sequences, float_logits, margins, right_answers
from .witnesses import drawn_order, widened

TENSORS = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U", "b_Q", "b_K", "b_V", "b_O", "b_U")
SIZES = [
    (k, v) for k in (1, 2, 2, 3, 3, 3, 4, 4) for v in (2, 3, 3, 4, 4, 5) if v**k <= 256
]  # fmt: skip
WIDE = "wide weights"
STRATEGIES: list[dict[str, int | str]] = [
    {"direct": direct, "averaging": averaging, "attention_error": error}
    for direct in DIRECT_PATHS
    for averaging in AVERAGINGS
    for error in ATTENTION_ERRORS
]


@dataclass(frozen=True)
class Choices:
    """Options and witness of any theorem."""

    bins: int = 128
    window: Any = None
    effort: Any = None
    order: Any = None
    strategy: dict[str, int | str] = field(default_factory=dict)
    gap: Any = None
    average: Any = None
    directions: tuple[Any, ...] = ()
    loose: tuple[int, float] | None = None
    """Seed and amount by which the tables are wider than need be: an enemy chooses them too.

    A negative amount: of the weights alone.
    """


@dataclass(frozen=True)
class Subject:
    """What the enemy has made: a model with a dial, and what it aims at."""

    model: Model
    """Its last two residual directions are the dial's: always 1, and only ``W_U`` reads them."""
    task: str
    seed: int
    flat: bool
    """All attention weights are equal and all tables exact: ties are ties."""
    query: int
    label: int
    wanted: int
    """So many sequences of the class shall be proved; for ``subcubic``, the smaller tokens."""
    choices: Choices

    @property
    def scale(self) -> float:
        """How far its logits differ."""
        logits = float_logits(self.model, all_sequences(self.model.n_ctx, self.model.d_vocab))[0]
        return float(np.ptp(logits, axis=1).mean()) or 1.0

    def raised(self, by: float) -> Model:
        """The model with the label's logits raised, to 48 bits."""
        W_U = self.model.W_U.copy()
        by += float(W_U[-2:, self.label].sum())
        W_U[-2, self.label] = float32(np.array(by))
        W_U[-1, self.label] = float32(np.array(by - W_U[-2, self.label]))
        return replace(self.model, W_U=W_U)


class Violation(NamedTuple):
    """A false proof."""

    theorem: str
    subject: Subject
    model: Model
    query: int
    label: int
    proved: int
    true: int


# Sampling


def sample(rng: np.random.Generator, theorem: str, turn: int, part: str | None = None) -> Subject:
    """Any small model: biases, cancelling parts, saturated or no attention, outputs to spare.

    part: one that the strategy of ``subcubic`` must have; ``WIDE`` for wide tables of weights.
    """
    k, v = SIZES[int(rng.integers(len(SIZES)))]
    flat = bool(theorem != "subcubic" and rng.random() < 0.25)
    if flat:
        k, v = (2, 2, 4)[k % 3], min(v, 4)  # shares of attention that float64 holds
    max_only = theorem in ("cubic", "subcubic")
    names = task_names(v)
    task = "max" if max_only or rng.random() < 0.75 else str(rng.choice(names))
    model = _weights(rng, k, v, flat, by_value=rng.random() < (0.7 if max_only else 0.4))
    chosen = _choices(rng, theorem, model, turn)
    chosen = replace(chosen, loose=None) if flat else chosen
    subject = Subject(model, task, turn, flat, 0, 0, 1, chosen)
    if part == WIDE:
        chosen = replace(subject.choices, loose=(turn, -float(rng.choice([0.3, 1.0]))))
        subject = replace(subject, flat=False, choices=chosen)
    elif part is not None:
        having = [one for one in STRATEGIES if part in one.values()]
        chosen = replace(subject.choices, strategy=having[37 * turn % len(having)])
        subject = replace(subject, choices=chosen)
    return _aimed(rng, theorem, subject)


def _weights(rng: np.random.Generator, k: int, v: int, flat: bool, by_value: bool) -> Model:
    if rng.random() < 0.1 and not flat:
        model = max_like_model(rng, k=k, v=v, sharpness=rng.uniform(0.3, 5), noise=rng.uniform())
        return _with_dial(vars(model), Fraction(1), by_value)
    d, h = int(rng.integers(1, 5)), int(rng.integers(1, 3))  # without the dial's
    x = v + int(rng.choice([0, 0, 0, 1, 2]))
    per_side = float(np.exp(rng.uniform(np.log(0.3), np.log(6))))
    shapes = {
        "W_E": (v, d), "W_pos": (k, d), "W_Q": (d, h), "W_K": (d, h), "W_V": (d, h), "W_O": (h, d),
        "W_U": (d, x), "b_Q": (h,), "b_K": (h,), "b_V": (h,), "b_O": (d,), "b_U": (x,),
    }  # fmt: skip
    often_zero = {"W_pos": 0.25, "W_U": 0.1, "W_O": 0.1} | dict.fromkeys(TENSORS[7:], 0.5)
    weights: dict[str, np.ndarray] = {}
    for name in TENSORS:
        weights[name] = rng.normal(size=shapes[name])
        if name in ("W_Q", "W_K"):
            weights[name] *= per_side
        if rng.random() < 0.5 or flat:
            weights[name] = np.rint(weights[name] * 4) / 4
        if rng.random() < often_zero.get(name, 0.02):
            weights[name] *= 0.0
    if rng.random() < 0.4 and d > 1:  # what the head writes is not what the tokens bring
        read = int(rng.integers(1, d))
        for name in ("W_E", "W_pos"):
            weights[name][:, read:] = 0.0
        weights["W_U"][:read] = 0.0
    if flat:
        weights["W_Q"] *= 0.0
        weights["b_Q"] *= 0.0
    if rng.random() < 0.1:
        weights["b_U"] += 2.0**20
    if rng.random() < 0.1:  # values share a large part, which b_O takes away
        weights["b_V"][0] += 2.0 ** rng.integers(4, 16)
        weights = {name: float32(w) for name, w in weights.items()}
        weights["b_O"] = -weights["b_V"] @ weights["W_O"]
    square = Fraction(h) if rng.random() < 0.5 and not flat else Fraction(1)
    return _with_dial(weights, square, by_value)


def _with_dial(weights: dict[str, Any], divisor_squared: Fraction, by_value: bool) -> Model:
    """Two residual directions more, which ``b_O`` makes 1; or the bias of a value of their own."""
    wider = {name: np.asarray(weights[name], dtype=np.float64) for name in TENSORS}
    added = int(by_value)
    for name in ("W_E", "W_pos"):
        wider[name] = np.pad(wider[name], ((0, 0), (0, 2)))
    for name in ("W_Q", "W_K", "W_V"):
        wider[name] = np.pad(wider[name], ((0, 2), (0, added)))
    for name in ("b_Q", "b_K", "b_V"):
        wider[name] = np.pad(wider[name], (0, added))
    wider["W_U"] = np.pad(wider["W_U"], ((0, 2), (0, 0)))
    wider["W_O"] = np.pad(wider["W_O"], ((0, added), (0, 2)))
    wider["b_O"] = np.pad(wider["b_O"], (0, 2), constant_values=1.0 - by_value)
    if by_value:
        wider["b_V"][-1] = 1.0
        wider["W_O"][-1, -2:] = 1.0
    return model_of(divisor_squared, **wider)


def _own(name: str, values: np.ndarray, by_value: bool) -> np.ndarray:
    """The view of a tensor that has nothing of the dial in it."""
    if name in ("W_E", "W_pos", "W_O"):
        values = values[:, :-2]
    if name in ("W_Q", "W_K", "W_V", "W_U"):
        values = values[:-2]
    if by_value and name in ("W_Q", "W_K", "W_V", "b_Q", "b_K", "b_V"):
        values = values[..., :-1]
    if by_value and name == "W_O":
        values = values[:-1]
    return values[:-2] if name == "b_O" else values


def _choices(rng: np.random.Generator, theorem: str, model: Model, turn: int) -> Choices:
    v, x, k = model.d_vocab, model.d_vocab_out, model.n_ctx
    bins = int(rng.choice([1, 3, 16, 256, 4096]))
    window = rng.integers(1, v + 1, (v, x)).astype(np.int32)
    amount = float(rng.choice([0.3, 0.8, 1.1, -0.1, -0.5, -1.0]))
    loose = (turn, amount) if rng.random() < 0.3 and theorem != "subcubic" else None
    chosen = Choices(bins=bins, window=window, loose=loose)
    if theorem == "additive":
        kind = turn % 4
        effort = rng.choice([-2, -1, 0, 1, 7, 300], (v, x)).astype(np.int32)
        effort = np.full_like(effort, (0, -2, 300, 0)[kind]) if kind in (1, 2) else effort
        order = drawn_order(rng, effort)
        if kind:
            chosen = replace(chosen, effort=effort, order=order)
    if theorem == "subcubic":
        d = model.W_E.shape[1]
        found, residual = find_directions(model)
        directions: list[np.ndarray] = [*found, residual]
        for n, shape in enumerate([(2, v), (2, v), (d + 1,), (d + 1,), (d,)]):
            if rng.random() < 0.5:
                directions[n] = rng.normal(size=shape) * rng.integers(0, 2)
        chosen = replace(
            chosen,
            strategy=STRATEGIES[37 * turn % len(STRATEGIES)],  # every one of them, parts mixed
            gap=rng.integers(0, v, (v, v, k)).astype(np.int32),
            average=np.clip(rng.uniform(-0.3, 1.3, (v, k)), 0, 1),
            directions=tuple(directions),
        )
    return chosen


def _aimed(rng: np.random.Generator, theorem: str, subject: Subject) -> Subject:
    """The same with a class to aim at, one with several sequences if there is one."""
    tokens, label = sequences(subject)
    classes, sizes = np.unique(np.stack([tokens[:, -1], label], axis=1), axis=0, return_counts=True)
    at = int(rng.choice(len(classes), p=sizes**2 / (sizes**2).sum()))
    query, m = classes[at].tolist()
    if theorem != "subcubic":
        size = int(sizes[at])
        wanted = size if rng.random() < 0.6 else int(rng.integers(1, size + 1))
        return replace(subject, query=query, label=m, wanted=wanted)
    # One set of sequences: exactly ``wanted`` tokens are smaller, by the gap or more.
    k, gap = subject.model.n_ctx, subject.choices.gap.copy()
    n = int(rng.integers(1, k)) if k > 1 else 0  # 0: all tokens are the same
    n = 0 if query == m and rng.random() < 0.1 else n
    largest_gap = m - query if query != m else max(1, m)
    gap[query, m] = 0
    gap[query, m, n] = int(rng.integers(1, largest_gap + 1))
    choices = replace(subject.choices, gap=gap)
    return replace(subject, query=query, label=m, wanted=n, choices=choices)


def mutated(rng: np.random.Generator, theorem: str, subject: Subject) -> Subject:
    """A neighbour: a few weights of one tensor, or its size, or the choices."""
    if theorem == "additive" and subject.choices.order is not None and rng.random() < 0.1:
        choices = subject.choices
        return replace(subject, choices=replace(choices, order=drawn_order(rng, choices.effort)))
    if rng.random() < 0.05:
        fresh = _choices(rng, theorem, subject.model, subject.seed)
        keep: dict[str, Any] = {"loose": subject.choices.loose}
        if theorem == "subcubic":
            keep = {"gap": subject.choices.gap, "strategy": subject.choices.strategy}
        return replace(subject, choices=replace(fresh, **keep))
    names = [n for n in TENSORS if not (subject.flat and n in ("W_Q", "b_Q"))]
    name = str(rng.choice(names))
    values: np.ndarray = getattr(subject.model, name).copy()
    real = _own(name, values, by_value=not subject.model.b_O[-1])
    kind = rng.integers(6)
    chosen = rng.random(real.shape) < rng.choice([0.2, 0.5, 1.0])
    if rng.random() < 0.7:  # what is 0 may stay so
        chosen &= real != 0
    if kind == 0:
        real *= 2.0 ** rng.integers(-1, 2)
    elif kind == 1:
        real[chosen] *= rng.choice([0.0, -1.0, 0.5, 2.0])
    elif kind == 2 and real.ndim == 2:
        real[rng.integers(len(real))] = real[rng.integers(len(real))]
    else:
        size = 2.0 ** rng.integers(-8, 2) * (np.abs(real).mean() or 1.0)
        real += size * rng.normal(size=real.shape) * chosen
    if subject.flat:
        real[...] = np.rint(np.clip(real, -64, 64) * 8) / 8
    np.clip(real, -(2.0**24), 2.0**24, out=real)
    changed: dict[str, Any] = {name: float32(values)}
    return replace(subject, model=replace(subject.model, **changed))


# One run of a theorem


def sequences(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """All sequences of its task, and their labels."""
    k, v = subject.model.n_ctx, subject.model.d_vocab
    seed = subject.seed if subject.task == "random" else 0
    return _all_labelled(subject.task, k, v, seed)


@cache
def _all_labelled(task: str, k: int, v: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All sequences and their labels."""
    tokens = all_sequences(k, v)
    return tokens, make_task(our_kernel, task, k, v, seed).labels(tokens)


def quick_tables(kernel: ModuleType, model: Model, flat: bool) -> Any:
    """Integer tables as narrow as they can honestly be, from float64 numbers.

    Untrusted: a violation counts once ``verify_tables`` has accepted them.
    """
    m = model
    residual = m.W_E[None] + m.W_pos[:, None]
    query, key = residual[-1] @ m.W_Q + m.b_Q, residual @ m.W_K + m.b_K
    scores = np.einsum("qh,ith->iqt", query, key) / float(m.score_divisor_squared) ** 0.5
    values = (residual @ m.W_V + m.b_V) @ m.W_O @ m.W_U
    direct = (residual[-1] + m.b_O) @ m.W_U + m.b_U
    shift = np.rint(scores.max(axis=(0, 2)))
    nats = scores - shift[:, None]
    exponent = np.floor(nats / np.log(2.0)).astype(np.int64)  # w in 2^exponent [1, 2)
    mantissa = np.exp(nats - exponent * np.log(2.0)) * 2.0**28
    off = 2.0**-6 + np.abs(nats) * 2.0**-20
    weights = np.floor(mantissa - off), np.ceil(mantissa + off)
    if flat:
        weights = mantissa, mantissa
    size = max(np.abs(values).max(), np.abs(direct).max())
    grid = 29 - int(np.frexp(size)[1]) if size else 0
    exact = all(np.array_equal(np.rint(e), e) for e in (values * 2.0**grid, direct * 2.0**grid))
    off = 0.0 if flat and exact else 2.0**-6
    ends = [
        rounded(table * 2.0**grid + sign * off).astype(np.int32)
        for table in (values, direct)
        for rounded, sign in ((np.floor, -1), (np.ceil, 1))
    ]
    return kernel.IntegerTables(
        weights[0].astype(np.int32),
        weights[1].astype(np.int32),
        (exponent - 28).astype(np.int32),
        *ends,
        shift,
        np.array([grid]),
    )


def run(kernel: ModuleType, theorem: str, subject: Subject, model: Model, tables: Any) -> Any:
    """What the theorem proves."""
    chosen, task = subject.choices, _task(kernel, subject)
    match theorem:
        case "brute-force":
            return kernel.brute_force(tables, task, kernel.BruteForceOptions())
        case "additive":
            witness = None
            if chosen.effort is not None:
                witness = kernel.EffortWitness(chosen.effort, chosen.order)
            options = kernel.AdditiveOptions(chosen.bins)
            return kernel.additive(tables, task, options, witness=witness)
        case "windowed":
            witness = kernel.WindowWitness(chosen.window)
            options = kernel.WindowedOptions(bins=chosen.bins)
            return kernel.windowed(tables, task, options, witness=witness)
        case "collapsed-cubic":
            return kernel.collapsed_cubic(tables, task, kernel.CollapsedCubicOptions(chosen.bins))
        case "collapsed-subcubic":
            witness = kernel.WindowWitness(chosen.window)
            options = kernel.CollapsedSubcubicOptions(bins=chosen.bins)
            return kernel.collapsed_subcubic(tables, task, options, witness=witness)
        case "cubic":
            return kernel.cubic(tables, task, kernel.CubicOptions())
        case "subcubic":
            witness = kernel.SubcubicWitness(chosen.gap, chosen.average, *chosen.directions)
            options = kernel.SubcubicOptions.parse(chosen.strategy)
            return kernel.subcubic(_of(kernel, model), task, options, witness=witness)
    raise ValueError(theorem)


def _of(kernel: ModuleType, model: Model) -> Any:
    return kernel.Model(**vars(model))


def _task(kernel: ModuleType, subject: Subject) -> Any:
    k, v = subject.model.n_ctx, subject.model.d_vocab
    seed = subject.seed if subject.task == "random" else 0
    return make_task(kernel, subject.task, k, v, seed).task


def _tables(kernel: ModuleType, subject: Subject, model: Model) -> Any:
    tables = quick_tables(kernel, model, subject.flat)
    if subject.choices.loose is None:
        return tables
    seed, amount = subject.choices.loose
    rng = np.random.default_rng(seed)
    if amount > 0:
        return widened(rng, tables, amount)
    some = (
        amount
        * rng.random((2, *tables.weight_low.shape))
        * rng.integers(0, 2, (2, *tables.weight_low.shape))
    )
    return tables._replace(  # mantissas are below 2^29, so that twice as much is a mantissa too
        weight_low=np.floor(tables.weight_low * (1 + some[0])).astype(np.int32),
        weight_high=np.ceil(tables.weight_high * (1 - some[1])).astype(np.int32),
    )


def _sealed(kernel: ModuleType, tables: Any, semantics: str = "real") -> Any:
    seal = sys.modules[f"{kernel.__name__}._integers"]._SEAL
    return kernel.VerifiedTables(tables, "0" * 64, kernel._ledger.Ledger(), semantics, seal=seal)


def accepted(kernel: ModuleType, subject: Subject, model: Model) -> Any:
    """Our tables as the kernel verifies them, or None: it rejects them."""
    try:
        return kernel.verify_tables(_of(kernel, model), _tables(kernel, subject, model))
    except (kernel.RejectedError, kernel.MalformedError):
        return None


def verified(kernel: ModuleType, subject: Subject, model: Model) -> Any:
    """Tables that the kernel itself accepts: ours, or its own if it does not."""
    ours = _of(kernel, model)
    return accepted(kernel, subject, model) or kernel.verify_tables(
        ours, kernel.integer_tables(ours)
    )


Counts = dict[tuple[int, int], int]


def counts(kernel: ModuleType, theorem: str, subject: Subject, model: Model) -> Counts:
    """By class what is proved from quick tables."""
    tables = None
    if theorem != "subcubic":
        tables = _sealed(kernel, _tables(kernel, subject, model))
    proved = run(kernel, theorem, subject, model, tables)
    return {(part.query, part.label): part.correct for part in proved.by_class}


def false_proof(
    kernel: ModuleType, theorem: str, subject: Subject, model: Model, proved: Counts
) -> Violation | None:
    """The first class of which more is proved than is true, from tables that the kernel accepts."""
    tokens, label = sequences(subject)
    if model.d_vocab_out == 1:
        return None
    logits, error = float_logits(model, tokens)
    right = margins(logits, label) < -2 * error
    if not _exceeding(proved, tokens, label, right):
        return None
    right = right_answers(model, tokens, label)
    if not _exceeding(proved, tokens, label, right):
        return None
    if theorem != "subcubic":
        again = run(kernel, theorem, subject, model, verified(kernel, subject, model))
        proved = {(part.query, part.label): part.correct for part in again.by_class}
    for q, m, count in _exceeding(proved, tokens, label, right):
        return Violation(theorem, subject, model, q, m, proved[q, m], count)
    return None


def _exceeding(
    proved: Counts, tokens: np.ndarray, label: np.ndarray, right: np.ndarray
) -> list[tuple[int, int, int]]:
    found = []
    for (q, m), count in proved.items():
        true = int((right & (tokens[:, -1] == q) & (label == m)).sum())
        if count > true:
            found.append((q, m, true))
    return found


# The search


class Edge(NamedTuple):
    """Where a model becomes right."""

    at: float
    """How far the dial must be turned before what shall be proved is true."""
    unit: float
    """How much the sequences aimed at differ in that: gaps are measured in it, so that models about
    which there is nothing to prove do not seem tight."""


class Aim(NamedTuple):
    """Sequences of which something is to be proved."""

    query: int
    label: int
    wanted: int
    """See ``Subject``."""
    members: np.ndarray
    """Which sequences they are."""
    number: int
    """How many of them."""


def aims(theorem: str, subject: Subject, proved: Counts, certified: Any) -> Iterator[Aim]:
    """Every class of which something is proved; for ``subcubic``, every certified set."""
    tokens, label = sequences(subject)
    for (q, m), number in proved.items():
        if theorem == "subcubic":
            for n in np.flatnonzero(certified[q, m]).tolist():
                yield aim(theorem, subject, q, m, n)
        elif number:
            yield Aim(q, m, number, (tokens[:, -1] == q) & (label == m), number)


def aim(theorem: str, subject: Subject, query: int, label: int, wanted: int) -> Aim:
    """One class or set."""
    tokens, labels = sequences(subject)
    members = (tokens[:, -1] == query) & (labels == label)
    number = wanted
    if theorem == "subcubic":
        smaller = np.where(tokens < label, tokens, -1)
        gap = int(subject.choices.gap[query, label, wanted])
        far = label - gap if wanted else -1  # without smaller tokens no gap matters
        members &= ((tokens < label).sum(axis=1) == wanted) & (smaller.max(axis=1) <= far)
        number = int(members.sum())
    return Aim(query, label, wanted, members, number)


class Member(NamedTuple):
    """One of the models that the enemy breeds from."""

    subject: Subject
    gap: float
    left: int
    """Offspring that it may still have without an advance."""


@dataclass
class Report:
    """What a search has seen."""

    evaluations: int = 0
    starts: int = 0
    advances: int = 0
    smallest_gap: float = np.inf
    """See ``Edge``: 0 is where proving becomes false."""
    largest_excess: int | None = None
    """The largest ``proved - true`` of a class of which something is true or proved."""
    tight: int = 0
    """Times that a class was proved exactly as far as it is true, and is not true as a whole."""
    violation: Violation | None = None
    strategies: set[tuple[str, ...]] = field(default_factory=set)

    def as_dict(self) -> dict[str, Any]:
        """Numbers for a file."""
        return {
            "evaluations": self.evaluations,
            "starts": self.starts,
            "advances": self.advances,
            "smallest_gap": None if np.isinf(self.smallest_gap) else self.smallest_gap,
            "largest_proved_minus_true": self.largest_excess,
            "tight_classes": self.tight,
            "false_proofs": int(self.violation is not None),
        }


Visit = Callable[[Subject, Model, Counts], None]
"""Called for every advance, with what is proved there."""
POOL = 3
OFFSPRING = 60
BELOW = (0.0, 2.0**-28, 2.0**-20, 2.0**-10, 2.0**-7, 2.0**-4, 2.0**-2)
"""How far below 0 a strike is aimed."""


@dataclass
class Enemy:
    """A search for a false proof of one theorem."""

    kernel: ModuleType
    theorem: str
    seed: int = 0
    part: str | None = None
    """Of the strategy, for ``subcubic``."""
    visit: Visit | None = None
    report: Report = field(default_factory=Report)
    pool: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with no model."""
        self.rng = np.random.default_rng(self.seed)
        self.certified: Any = None

    def climb(self, evaluations: int) -> Report:
        """Search until there is a false proof or the evaluations are spent."""
        report = self.report
        with self._prepared():
            while report.evaluations < evaluations and report.violation is None:
                if not self.pool or self.rng.random() < 0.1:
                    self._begin()
                else:
                    self._breed()
        return report

    def draw(self, evaluations: int) -> Report:
        """Plain random sampling from where the climbs begin, the dial at random."""
        report = self.report
        with self._prepared():
            while report.evaluations < evaluations and report.violation is None:
                subject = self._sample()
                self._try(subject, self._turned(subject))
        return report

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        """Asking whether the machine can add takes half the time: once is enough.

        Of ``subcubic``, notes which sets of a class it certifies.
        """
        modules: list[Any] = [
            sys.modules[f"{self.kernel.__name__}.{part}"]
            for part in ("theorems.subcubic", "_tables")
        ]
        modules[0].check_arithmetic()
        certify = modules[0]._certified

        def noted(*arguments: Any) -> Any:
            self.certified = certify(*arguments)
            return self.certified

        with ExitStack() as stack:
            for module in modules:
                stack.enter_context(patch.object(module, "check_arithmetic", lambda: None))
            stack.enter_context(patch.object(modules[0], "_certified", noted))
            yield

    def _turned(self, subject: Subject) -> float:
        return float(self.rng.normal()) * float(self.rng.choice([0.0, 1.0, 3.0])) * subject.scale

    def _edge(self, subject: Subject) -> Edge | None:
        """Where what is aimed at becomes true; None if there is nothing to aim at."""
        if subject.model.d_vocab_out == 1:
            return None
        tokens, label = sequences(subject)
        at = aim(self.theorem, subject, subject.query, subject.label, subject.wanted)
        margin = margins(float_logits(subject.model, tokens)[0], label)
        return self._measured(subject.model, subject, at, margin) if at.number else None

    def _measured(self, model: Model, subject: Subject, at: Aim, margin: np.ndarray) -> Edge | None:
        of = np.sort(margin[at.members])
        unit = float(of[-1] - of[0])
        large = 2.0**-20 * float(np.abs(of).max())
        return Edge(float(of[at.number - 1]), unit) if unit > large else None

    def _counts(self, subject: Subject, model: Model) -> Counts:
        return counts(self.kernel, self.theorem, subject, model)

    def _false_proof(self, subject: Subject, model: Model, proved: Counts) -> Violation | None:
        found = false_proof(self.kernel, self.theorem, subject, model, proved)
        if found is not None or self.theorem != "subcubic" or model.d_vocab_out == 1:
            return found
        # Not only as many as it says: the very sequences.
        tokens, label = sequences(subject)
        logits, error = float_logits(model, tokens)
        right = margins(logits, label) < -2 * error
        for at in aims(self.theorem, subject, proved, self.certified):
            if not right[at.members].all():
                true = int(right_answers(model, tokens[at.members], label[at.members]).sum())
                if true < at.number:
                    return Violation(
                        self.theorem, subject, model, at.query, at.label, at.number, true
                    )
        return None

    def _sample(self) -> Subject:
        self.report.starts += 1
        return sample(self.rng, self.theorem, self.report.starts, self.part)

    def _begin(self) -> None:
        """A new model: the dial at random, or a strike; once more where nothing is proved."""
        subject = self._sample()
        edge = self._edge(subject) if self.rng.random() < 0.5 else None
        if edge is None:
            best = self._try(subject, self._turned(subject))
        else:
            best = self._try(subject, edge.at + self._strike(subject) * edge.unit)
            best = best or self._try(subject, edge.at + 4.0 * edge.unit)
        if best is not None:
            self.pool.append(best)
            if len(self.pool) > POOL:
                del self.pool[int(self.rng.integers(POOL))]

    def _breed(self) -> None:
        """A step from a member of the pool: towards a smaller gap, or a strike."""
        at = int(self.rng.integers(len(self.pool)))
        parent = self.pool[at]
        same = self.rng.random() < 0.25
        subject = parent.subject if same else mutated(self.rng, self.theorem, parent.subject)
        edge = self._edge(subject)
        target = parent.gap * float(self.rng.choice([1.0, 0.97, 0.8, 0.4]))
        if self.rng.random() < 0.3:
            target = self._strike(subject)
        best = None if edge is None else self._try(subject, edge.at + target * edge.unit)
        if best is not None and best.gap <= max(parent.gap, 2.0**-30):
            self.report.advances += 1
            self.pool[at] = best
        elif parent.left > (0 if parent.gap > 2.0**-12 else OFFSPRING - 12):
            self.pool[at] = parent._replace(left=parent.left - 1)
        else:
            del self.pool[at]

    def _strike(self, subject: Subject) -> float:
        """Where proving would be false."""
        tie = subject.flat and self.rng.random() < 0.8
        return 0.0 if tie else -float(self.rng.choice(BELOW))

    def _try(self, subject: Subject, by: float) -> Member | None:
        """Run the theorem with the dial turned by ``by``; where the gap is least, if anywhere."""
        report, theorem = self.report, self.theorem
        model = subject.raised(float(np.rint(by * 2.0**24)) / 2.0**24 if subject.flat else by)
        report.evaluations += 1
        try:
            proved = self._counts(subject, model)
        except (self.kernel.UserError, self.kernel.KernelDefectError):  # too large for the tables
            return None
        report.violation = self._false_proof(subject, model, proved)
        if theorem == "subcubic":
            report.strategies.add(tuple(map(str, subject.choices.strategy.values())))
        self._count_excess(subject, model, proved)
        if self.visit is not None:
            self.visit(subject, model, proved)
        if model.d_vocab_out == 1:
            return None
        tokens, label = sequences(subject)
        margin = margins(float_logits(model, tokens)[0], label)
        best: Member | None = None
        for at in aims(theorem, subject, proved, self.certified):
            edge = self._measured(model, subject, at, margin)
            if edge is None:
                continue
            gap = max(-edge.at / edge.unit, 2.0**-32)
            report.smallest_gap = min(report.smallest_gap, gap)
            if best is None or gap < best.gap:
                aimed = replace(subject, query=at.query, label=at.label, wanted=at.wanted)
                best = Member(replace(aimed, model=model), gap, OFFSPRING)
        return best

    def _count_excess(self, subject: Subject, model: Model, proved: Counts) -> None:
        tokens, label = sequences(subject)
        right = self._right(model, tokens, label)
        for (q, m), count in proved.items():
            members = (tokens[:, -1] == q) & (label == m)
            true = int((right & members).sum())
            self.report.tight += 0 < count == true < int(members.sum())
            if true or count:
                before = self.report.largest_excess
                excess = count - true
                self.report.largest_excess = excess if before is None else max(before, excess)

    def _right(self, model: Model, tokens: np.ndarray, label: np.ndarray) -> np.ndarray:
        return margins(float_logits(model, tokens)[0], label) < 0


# Float32 semantics


class Way(NamedTuple):
    """How one float32 evaluation goes about it."""

    sums: str
    """``matmul``, ``pairwise``, ``forward``, ``backward`` or ``shuffled``"""
    bias_first: bool
    scale: str
    subtract: bool
    divide_first: bool


WAYS = [
    Way(sums, n % 2 == 0, ("before", "after", "reciprocal")[n % 3], n % 4 > 0, n % 3 > 0)
    for n, sums in enumerate(["matmul", "pairwise", "forward", "backward", "shuffled"])
]


ADVERSARIES = [style for style in styles(8, seed=1) if style.adversary]


def float32_margins(model: Model, tokens: np.ndarray, label: np.ndarray, way: Way) -> np.ndarray:
    """The best wrong logit minus the right one as float32 numbers compare; NaN if not covered."""
    single = np.float32
    W = {name: getattr(model, name).astype(single) for name in TENSORS}

    def added(terms: np.ndarray) -> np.ndarray:
        """Over the last axis."""
        if way.sums == "pairwise":
            return np.add.reduce(np.ascontiguousarray(terms), axis=-1)
        order = np.arange(terms.shape[-1])
        if way.sums == "backward":
            order = order[::-1]
        if way.sums == "shuffled":
            order = np.random.default_rng(len(order)).permutation(order)
        total = terms[..., order[0]]
        for at in order[1:]:
            total = total + terms[..., at]
        return total

    def linear(rows: np.ndarray, weight: str, bias: str) -> np.ndarray:
        if way.sums == "matmul":
            return np.matmul(rows, W[weight]) + W[bias]
        terms = rows[..., None, :] * W[weight].T
        extra = np.broadcast_to(W[bias][:, None], (*terms.shape[:-1], 1))
        both = [extra, terms] if way.bias_first else [terms, extra]
        return added(np.concatenate(both, axis=-1))

    def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``[n, j, c]`` and ``[n, c]``, over the last axis of both."""
        if way.sums == "matmul":
            return np.matmul(a, b[:, :, None])[:, :, 0]
        return added(a * b[:, None, :])

    with np.errstate(all="ignore"):
        sigma = single(float(model.score_divisor_squared) ** 0.5)
        residual = W["W_E"][tokens] + W["W_pos"]
        query = linear(residual[:, -1], "W_Q", "b_Q")
        if way.scale == "before":
            query = query / sigma
        scores = products(linear(residual, "W_K", "b_K"), query)
        if way.scale == "after":
            scores = scores / sigma
        if way.scale == "reciprocal":
            scores = scores * (single(1) / sigma)
        largest = scores.max(axis=1, keepdims=True)
        weights = np.exp(scores - largest if way.subtract else scores)
        covered = np.ones(len(tokens), bool)
        if not way.subtract:
            covered = (largest[:, 0] <= 80) & (largest[:, 0] >= -60)
        value = np.moveaxis(linear(residual, "W_V", "b_V"), 1, 2)
        total = added(weights)[:, None]
        if way.divide_first:
            weights = weights / total
        z = products(value, weights)
        z = z if way.divide_first else z / total
        logits = linear(residual[:, -1] + linear(z, "W_O", "b_O"), "W_U", "b_U")
    found = margins(logits.astype(np.float64), label)
    found[~covered] = np.nan
    return found


def worst_margins(model: Model, tokens: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The worst of several evaluations, sequence by sequence: of machines, and of an adversary.

    The adversary's (``float32_evaluations``) err in every operation by the most that rounding may.
    """
    found = [float32_margins(model, tokens, label, way) for way in WAYS]
    for style in ADVERSARIES:
        found.append(margins(evaluate(model, tokens, label, style), label))
    stacked = np.stack(found)
    return np.where(np.isnan(stacked), -np.inf, stacked).max(axis=0)


@dataclass
class Float32Enemy(Enemy):
    """The same against float32 semantics; a gap ``g`` is a share of ``1 / (1 + g)``."""

    @property
    def share(self) -> float:
        """The largest: how much of the room that the theorem leaves some evaluation needs."""
        return 1 / (1 + self.report.smallest_gap)

    def _sample(self) -> Subject:
        subject = super()._sample()
        while subject.model.d_vocab**subject.model.n_ctx > 64:
            subject = super()._sample()
        flat = replace(subject.choices, loose=None)
        return replace(_cancelling(self.rng, subject), flat=False, choices=flat)

    def _edge(self, subject: Subject) -> Edge | None:
        """Where the last evaluation gets right what is aimed at, in units of how much later."""
        real = super()._edge(subject)
        if real is None:
            return None
        tokens, label = sequences(subject)
        at = aim(self.theorem, subject, subject.query, subject.label, subject.wanted)
        worst = np.sort(worst_margins(subject.raised(real.at), tokens, label)[at.members])
        further = float(worst[at.number - 1])
        return Edge(real.at + further, further) if 0 < further < np.inf else None

    def _measured(self, model: Model, subject: Subject, at: Aim, margin: np.ndarray) -> Edge | None:
        if model is subject.model:  # asked by ``Enemy._edge``
            return super()._measured(model, subject, at, margin)
        tokens, label = sequences(subject)
        worst = float(np.sort(worst_margins(model, tokens, label)[at.members])[at.number - 1])
        further = worst - float(np.sort(margin[at.members])[at.number - 1])
        return Edge(worst, further) if 0 < further < np.inf else None

    def _right(self, model: Model, tokens: np.ndarray, label: np.ndarray) -> np.ndarray:
        return worst_margins(model, tokens, label) < 0

    def _counts(self, subject: Subject, model: Model) -> Counts:
        tables = self.kernel.integer_tables(_of(self.kernel, model), "float32")
        tables = _sealed(self.kernel, tables, "float32")
        proved = run(self.kernel, self.theorem, subject, model, tables)
        return {(part.query, part.label): part.correct for part in proved.by_class}

    def _false_proof(self, subject: Subject, model: Model, proved: Counts) -> Violation | None:
        tokens, label = sequences(subject)
        right = worst_margins(model, tokens, label) < 0
        exceeding = _exceeding(proved, tokens, label, right)
        if exceeding:  # the tables must be accepted
            ours = _of(self.kernel, model)
            tables = self.kernel.integer_tables(ours, "float32")
            self.kernel.verify_tables(ours, tables, "float32")
        for q, m, count in exceeding:
            return Violation(self.theorem, subject, model, q, m, proved[q, m], count)
        return None


def _cancelling(rng: np.random.Generator, subject: Subject) -> Subject:
    """The same with large numbers that cancel, where rounding loses most digits."""
    weights = {name: getattr(subject.model, name).copy() for name in TENSORS}
    own = {name: _own(name, w, by_value=not subject.model.b_O[-1]) for name, w in weights.items()}
    big = 2.0 ** float(rng.uniform(8, 20))
    match int(rng.integers(8)):
        case 0:
            own["b_K"] += big
        case 1:
            own["b_V"] += big
            own["b_O"] -= float32(own["b_V"] @ own["W_O"])
        case 2:
            own["b_U"] += big
        case 3:  # read by nobody: every reader has mean 0 along it
            own["W_E"] += big / 8
            for name in ("W_Q", "W_K", "W_V", "W_U"):
                own[name] -= float32(own[name].mean(axis=0))
        case 4:
            own["b_Q"] += big / 64
        case 5 | 6:  # all logits share what the residual stream holds, or the head adds
            own["W_U"] += big * rng.normal(size=(len(own["W_U"]), 1))
        case _:
            own["W_V"] *= big / 64
            own["b_O"] -= float32((own["W_E"][0] @ own["W_V"]) @ own["W_O"])
    changed: dict[str, Any] = {name: float32(w) for name, w in weights.items()}
    return replace(subject, model=replace(subject.model, **changed))


# What the enemy must find out


class Defect(NamedTuple):
    """An unsound kernel, and how long a search may take to show it."""

    theorem: str
    breaks: str
    edits: tuple[Edit, ...]
    seed: int
    """Of the first search; each later one adds 1."""
    evaluations: int = 800
    part: str | None = None

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.theorem}: {self.breaks}"


def _listed(theorem: str, file: str, breaks: str, seed: int, **settings: Any) -> Defect:
    """One of ``mutants``."""
    edits = [m.edits for m in MUTANTS if m.edits[0].file == file and m.breaks == breaks]
    if len(edits) != 1:
        raise ValueError(f"{len(edits)} mutants of {file} break: {breaks}")
    return Defect(theorem, breaks, edits[0], seed, **settings)


def _heaviest(theorem: str, file: str, old: str, new: str, seed: int) -> Defect:
    breaks = "upper weight for negative brackets too"
    return Defect(theorem, breaks, (Edit(file, old, new),), seed, part=WIDE)


EXACT = "exact_EQKE+max_diff_exact"
_COLLAPSED, _SUBCUBIC = "theorems/collapsed.py", "theorems/subcubic.py"
DEFECTS = (
    _listed("brute-force", "_margins.py", "upper weight for negative brackets too", 2),
    _listed("additive", "_slack.py", "ties called right", 0),
    _listed("additive", "_margins.py", "upper weight for negative brackets too", 3),
    _listed("windowed", "theorems/windowed.py", "weights of the label's products swapped", 2),
    _heaviest(
        "collapsed-cubic",
        _COLLAPSED,
        "weight = Counted.of(np.where(bracket >= 0, high, low), self._ledger)",
        "weight = Counted.of(high + 0 * bracket, self._ledger)",
        2,
    ),
    _listed("collapsed-subcubic", _COLLAPSED, "position path dropped from the shared row", 0),
    _heaviest(
        "cubic",
        "theorems/cubic.py",
        "np.where(bracket >= 0, weight_high, weight_low)",
        "weight_high + 0 * bracket",
        1,
    ),
    _listed("subcubic", _SUBCUBIC, "W of the nearest token alone", 3, part=EXACT),
    _listed("subcubic", _SUBCUBIC, "the other end where either may be worst", 0, part=EXACT),
    _listed("subcubic", "theorems/_position_mass.py", "smallest mass of the rivals", 2, part=EXACT),
)
"""Small ones: a rounding direction, an index, a condition, a tie."""

HARD_DEFECTS = (
    _listed("collapsed-subcubic", _COLLAPSED, "far weight of the wrong end", 3, part=WIDE),
    _listed("subcubic", _SUBCUBIC, "W from the largest gap", 1, part=EXACT),
    _listed(
        "subcubic", "theorems/_attention_error.py", "cross term dropped", 3, part="max_diff_exact"
    ),
)
"""Found in some searches only: for the benchmark."""

FLOAT32_DEFECTS = (
    _listed("brute-force", "_float32.py", "no room for exp", 0, evaluations=250),
    _listed("brute-force", "_float32.py", "b_U is exact", 0, evaluations=250),
    _listed("brute-force", "_float32.py", "the direct path is exact", 2, evaluations=250),
)


def hunt(kernel: ModuleType, defect: Defect, searches: int = 12) -> tuple[Violation | None, int]:
    """A false proof by a defective kernel, and the evaluations that it took."""
    kind = Float32Enemy if defect in FLOAT32_DEFECTS else Enemy
    spent = 0
    for seed in range(defect.seed, defect.seed + searches):
        report = kind(kernel, defect.theorem, seed, defect.part).climb(defect.evaluations)
        spent += report.evaluations
        if report.violation is not None:
            return report.violation, spent
    return None, spent
