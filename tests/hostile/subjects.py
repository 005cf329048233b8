"""Good certificates of small models, one for every theorem, with and without a witness."""

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from compactproofs.explain import find_witness
from compactproofs.kernel import MaxOfK, Model, SubcubicOptions, load_model
from compactproofs.models import resolve_model
from random_models import max_like_model, random_model, vote_model
from soundness.float32_evaluations import evaluate, right, styles
from soundness.truth import all_sequences, right_answers
from soundness.witnesses import drawn_order

from .judge import Subject

THEOREMS = (
    "additive", "additive, efforts", "brute-force", "collapsed-cubic", "collapsed-subcubic",
    "collapsed-subcubic, windows", "cubic", "subcubic", "windowed", "windowed, windows",
)  # fmt: skip
"""The theorems, and those that may have a witness once more with one."""
VARIANTS = (*THEOREMS, "additive, float32", "cubic, float32", "windowed, part", "composed")
"""Besides: of float32 semantics, of a part of the task, and of all its parts together."""

RIGHT_OF_MAX_OF_4 = 16_774_110
"""Of 64^4 sequences; ``soundness/test_bundled.py`` counts them by two ways."""


class Small(NamedTuple):
    """A model and how many sequences it gets right, by their last token."""

    model: Model
    real: tuple[int, ...]
    float32: tuple[int, ...]
    """Right in each of many float32 evaluations."""


def small(model: Model) -> Small:
    """The model with its exhaustive truth."""
    v = model.d_vocab
    tokens = all_sequences(model.n_ctx, v)
    label = tokens.max(axis=1)
    real = right_answers(model, tokens, label)
    computed = real.copy()
    for style in styles(24):
        computed &= right(evaluate(model, tokens, label, style), label)

    def by_query(answers: np.ndarray) -> tuple[int, ...]:
        return tuple(np.bincount(tokens[answers, -1], minlength=v).tolist())

    return Small(model, by_query(real), by_query(computed))


@cache
def small_models() -> dict[str, Small]:
    """Models of at most 8 tokens, all proved nontrivially by some theorem or hard to prove."""
    rng = np.random.default_rng(31)
    models = {
        "like max, v=3": max_like_model(rng, k=2, v=3, sharpness=1.0, noise=0.6),
        "like max, v=4": max_like_model(rng, k=3, v=4),
        "biased, outputs to spare": random_model(
            rng, k=2, v=4, d=4, h=3, outputs=6, scale=2.0, biases=True
        ),
        "votes": vote_model(3, 3),
        "one position": random_model(rng, k=1, v=3, d=2, h=2, biases=True),
        "one token": random_model(rng, k=2, v=1, d=1, h=1),
        "four positions": random_model(rng, k=4, v=2, d=3, h=2, scale=5.0, biases=True),
        "like max, v=8": max_like_model(rng, k=2, v=8),
    }
    return {name: small(model) for name, model in models.items()}


def witness_arrays(model: Model, variant: str) -> dict[str, np.ndarray] | None:
    """A witness for the variant, by tensor name; None if it has none."""
    theorem, _, kind = variant.partition(", ")
    v, x = model.d_vocab, model.d_vocab_out
    rng = np.random.default_rng([v, x, model.n_ctx])
    if theorem == "subcubic":
        task = MaxOfK(model.n_ctx, v)
        return dict(find_witness(model, task, theorem, SubcubicOptions()))
    if kind == "windows":
        return {"window": rng.integers(1, v + 2, (v, x)).astype(np.int32)}
    if kind == "efforts":
        effort = rng.choice([-2, -1, 1, 7, 50, 50, 50], (v, x)).astype(np.int32)
        return {"effort": effort, "order": drawn_order(rng, effort)}
    return None


def proof(
    kernel: ModuleType,
    subject: Any,
    task: Any,
    theorem: str,
    options: Any = None,
    witness: dict[str, np.ndarray] | None = None,
) -> Any:
    """What a theorem proves of a model or of tables, with a witness by tensor name."""
    known = kernel.THEOREMS[theorem]
    chosen = known.parse_options({}) if options is None else options
    own = None if witness is None else kernel.witness_from(known.witness, witness)
    return known.prove(subject, task, chosen, kernel.no_tick, own)


def subject(kernel: ModuleType, name: str, variant: str) -> Subject:
    """The certificate of a small model by one theorem."""
    return subject_of(kernel, name, small_models()[name], variant)


def bundled_subject(kernel: ModuleType, variant: str) -> Subject:
    """The certificate of the bundled max-of-4; the truth about all of it stands for any part."""
    model = load_model(resolve_model("max-of-4"))
    truth = (RIGHT_OF_MAX_OF_4,) * model.d_vocab
    made = subject_of(kernel, "max-of-4", Small(model, truth, truth), variant)
    return made._replace(right=RIGHT_OF_MAX_OF_4)


def subject_of(kernel: ModuleType, name: str, about: Small, variant: str) -> Subject:
    """The certificate of a model by one theorem."""
    model = kernel.Model(**vars(about.model))
    whole = kernel.MaxOfK(model.n_ctx, model.d_vocab)
    theorem, _, kind = variant.partition(", ")
    semantics = "float32" if kind == "float32" else "real"
    truth = about.float32 if kind == "float32" else about.real
    task = whole
    if kind == "part" and whole.v > 1:
        task = kernel._tasks.PartOfTask(whole, range(whole.v // 2, whole.v))
    if theorem == "composed":
        data = composed(kernel, model, whole)
    else:
        of = model
        if kernel.THEOREMS[theorem].from_tables:
            tables = kernel.integer_tables(model, semantics)
            of = kernel.verify_tables(model, tables, semantics)
        witness = witness_arrays(about.model, variant)
        data = kernel.encode_certificate(proof(kernel, of, task, theorem, witness=witness))
    known = sum(truth[q] for q in task.queries)
    return Subject(
        f"{name}, {variant}", kernel, model, task, theorem, data, known, semantics, about.real
    )


def part_proof(
    kernel: ModuleType,
    model: Any,
    whole: Any,
    queries: range,
    theorem: str,
    semantics: str = "real",
) -> Any:
    """A proof of a part of a task; of all of it if the queries are all."""
    every = len(queries) == whole.v
    task = whole if every else kernel._tasks.PartOfTask(whole, queries)
    tables = kernel.verify_tables(model, kernel.integer_tables(model, semantics), semantics)
    return proof(kernel, tables, task, theorem)


def composed(kernel: ModuleType, model: Any, whole: Any) -> bytes:
    """Proofs of the two halves by two theorems, put together; one token has no halves."""
    middle = whole.v // 2
    if not middle:
        every = range(whole.v)
        return kernel.encode_certificate(part_proof(kernel, model, whole, every, "additive"))
    halves = (range(middle), "additive"), (range(middle, whole.v), "cubic")
    return kernel.encode_certificate(
        kernel.compose([part_proof(kernel, model, whole, *half) for half in halves])
    )


def names() -> Iterator[tuple[str, str]]:
    """Model and variant of every subject."""
    for name in small_models():
        for variant in VARIANTS:
            yield name, variant
