"""Certificates with what a checker must say of them, made by the kernel or spoilt by hand."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from flint import arb
from safetensors.numpy import load, save

import compactproofs_check as checker
from certificates import altered, claim_of, sign
from compactproofs import kernel
from compactproofs.kernel import (
    AdditiveOptions,
    BruteForceOptions,
    CollapsedCubicOptions,
    CollapsedSubcubicOptions,
    CubicOptions,
    EffortWitness,
    IntegerTables,
    MaxOfK,
    Model,
    Proved,
    Task,
    VerifiedTables,
    WindowedOptions,
    WindowWitness,
    additive,
    brute_force,
    collapsed_cubic,
    collapsed_subcubic,
    cubic,
    encode_certificate,
    integer_tables,
    verify_tables,
    windowed,
)
from compactproofs.kernel._composition import compose
from compactproofs.kernel._tables_arb import arb_precision, arb_tables
from compactproofs.kernel._tasks import PartOfTask
from random_models import float32, hostile_models, max_like_model, random_model, vote_model
from soundness.witnesses import drawn_order, widened


class Case(NamedTuple):
    """A certificate about a model, and how a check of it must end."""

    name: str
    data: bytes
    model: Model
    outcome: str
    proved: Proved | None = None


def weights_of(model: Model) -> dict[str, Any]:
    """The weights as the checker wants them: matrices of floats."""
    return {name: np.atleast_2d(getattr(model, name)).tolist() for name in checker.AXES}


def for_checker(model: Model, module: Any = checker) -> Any:
    """The same model for (a copy of) the checker."""
    return module.Model(model.score_divisor_squared, weights_of(model), model.attention_dir)


def proofs(rng: np.random.Generator, tables: VerifiedTables, task: Task) -> list[Proved]:
    """One proof by each theorem, options and witnesses drawn."""
    shape = (tables.d_vocab, tables.d_vocab_out)
    effort = rng.choice([-2, -1, 0, 1, 3, 50, 200], shape).astype(np.int32)
    window = WindowWitness(rng.integers(1, task.v + 2, shape).astype(np.int32))
    effort_witness = EffortWitness(effort, drawn_order(rng, effort))

    def bins() -> int:
        return int(rng.integers(1, 300))

    def g() -> int:
        return int(rng.integers(1, task.v + 1))

    return [
        additive(tables, task, AdditiveOptions(1)),
        additive(tables, task, AdditiveOptions(bins())),
        additive(tables, task, AdditiveOptions(), witness=effort_witness),
        brute_force(tables, task, BruteForceOptions()),
        cubic(tables, task, CubicOptions()),
        collapsed_cubic(tables, task, CollapsedCubicOptions(bins())),
        collapsed_subcubic(tables, task, CollapsedSubcubicOptions(g(), bins())),
        collapsed_subcubic(tables, task, CollapsedSubcubicOptions(g(), bins()), witness=window),
        windowed(tables, task, WindowedOptions(g(), bins())),
        windowed(tables, task, WindowedOptions(g(), bins()), witness=window),
    ]


def models(seed: int) -> Iterator[tuple[str, Model]]:
    """Random models of some size, and with one seed in eight the hostile ones."""
    rng = np.random.default_rng([seed, 5])
    shapes = [(2, 3), (3, 4), (1, 4), (4, 3), (2, 6), (1, 1), (5, 2), (3, 1)]
    k, v = shapes[seed % len(shapes)]
    scale = float(np.exp(rng.uniform(-2, 3)))
    yield (
        f"random {seed}",
        random_model(
            rng, k=k, v=v, d=3, h=2, outputs=v + seed % 3, biases=bool(seed % 2), scale=scale
        ),
    )
    like_max = {"sharpness": rng.uniform(0.3, 4), "noise": rng.uniform(0, 0.5)}
    yield f"like max {seed}", max_like_model(rng, k=k, v=v, **like_max)
    if seed % 8 == 3:
        yield from hostile_models(rng, k=2 + seed % 2, v=3).items()


@cache
def honest(seed: int) -> tuple[Case, ...]:
    """Certificates by every theorem: honest tables and loose ones, both semantics, and parts."""
    return tuple(_honest(seed))


def _honest(seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for name, model in models(seed):
        task = MaxOfK(model.n_ctx, model.d_vocab)
        semantics = ("real", "float32")[int(rng.integers(2))]
        try:
            tables = integer_tables(model, semantics)
        except (kernel.EnclosureError, kernel.SemanticsError):
            semantics = "real"
            tables = integer_tables(model)
        if rng.integers(2):
            tables = widened(rng, tables, 0.5)
        verified = verify_tables(model, tables, semantics)
        found = proofs(rng, verified, task)
        if seed % 8 == 3:  # one of many models
            found = found[int(rng.integers(3)) :: 3]
        elif task.v > 1:
            cut = int(rng.integers(1, task.v))
            ranges = range(cut), range(cut, task.v)
            parts = [proofs(rng, verified, PartOfTask(task, part)) for part in ranges]
            n = int(rng.integers(len(found)))
            found += [parts[0][n], compose([parts[0][n], parts[1][-1 - n]])]
        for proved in found:
            title = f"{name}, {semantics}: {proved.claim.task} {proved.claim.theorem}"
            data = encode_certificate(proved)
            yield Case(title, data, model, proved.outcome.name, proved)


class Tight(NamedTuple):
    """Tables as close as integers can be to the numbers of a model, by Arb."""

    name: str
    model: Model
    semantics: str
    tables: IntegerTables

    def spoilt(self) -> Iterator[tuple[str, IntegerTables]]:
        """Each entry in turn one unit inside the number."""
        for name, array in self.tables._asdict().items():
            step = {"low": 1, "high": -1}.get(name.rpartition("_")[2], 0)
            for at in np.ndindex(array.shape) if step else ():
                moved = array.copy()
                moved[at] += step
                yield f"{name}{list(at)} ({self.semantics})", self.tables._replace(**{name: moved})


@cache
def tight(name: str, semantics: str) -> Tight:
    """Tight tables of a small model."""
    rng = np.random.default_rng([len(name), 8])
    model = random_model(rng, k=2, v=3, d=3, h=2, outputs=4, biases=True, scale=2.0)
    if name == "tiny":
        names = [field for field in checker.AXES if field not in ("W_O", "W_U")]
        model = replace(model, **{n: float32(getattr(model, n) * 1e-12) for n in names})
    if name == "cancelling":  # logits far below the sums of absolute values that make them
        W_O, W_U = model.W_O.copy(), model.W_U.copy()
        W_O[:, 1], W_U[1], W_U[2] = W_O[:, 0], -W_U[0] * (1 - 2.0**-12), W_U[2] * 2.0**-12
        W_E, W_pos, b_O = model.W_E.copy(), model.W_pos.copy(), model.b_O.copy()
        W_E[:, 1], W_pos[:, 1], b_O[1] = W_E[:, 0], W_pos[:, 0], b_O[0]
        more = {"W_O": W_O, "W_E": W_E, "W_pos": W_pos, "b_O": b_O, "b_U": model.b_U * 2.0**-12}
        model = replace(model, **{n: float32(w) for n, w in {**more, "W_U": W_U}.items()})
    if name[:5] == "votes":
        model = vote_model(3, 3)
    if name == "votes, outputs 0 and 1 equal":
        model = replace(model, W_U=model.W_U[:, [0, 0, 2]])
    found = integer_tables(model, semantics)
    grid = int(found.grid[0])

    def ends(number: arb, exponent: int) -> tuple[int, int]:
        unit = arb((1, -exponent))
        low, high = (number.lower() * unit).floor(), (number.upper() * unit).ceil()
        return int(str(low.unique_fmpz())), int(str(high.unique_fmpz()))

    with arb_precision(400):
        exact = arb_tables(model, 400, semantics)
        for i, q, t in np.ndindex(found.weight_low.shape):
            score = exact.scores[i][q][t] - arb(float(found.shift[q]))
            exponent = int(found.weight_exponent[i, q, t])
            found.weight_low[i, q, t] = ends(score.lower().exp(), exponent)[0]
            found.weight_high[i, q, t] = ends(score.upper().exp(), exponent)[1]
        for i, t, x in np.ndindex(found.value_low.shape):
            both = ends(exact.values[i][t][x], -grid)
            found.value_low[i, t, x], found.value_high[i, t, x] = both
        for q, x in np.ndindex(found.direct_low.shape):
            found.direct_low[q, x], found.direct_high[q, x] = ends(exact.direct[q][x], -grid)
    return Tight(name, model, semantics, found)


@cache
def _certificate(name: str, semantics: str) -> bytes:
    case = tight(name, semantics)
    task = MaxOfK(case.model.n_ctx, case.model.d_vocab)
    verified = verify_tables(case.model, case.tables, semantics)
    return encode_certificate(cubic(verified, task, CubicOptions()))


def with_tables(tables: IntegerTables, case: Tight) -> bytes:
    """A certificate of these tables, whatever they are, with the numbers of the tight ones."""
    proved = _certificate(case.name, case.semantics)
    plain = {name: np.ascontiguousarray(array) for name, array in tables._asdict().items()}
    return sign(claim_of(proved), load(proved) | plain)


def telling() -> Iterator[tuple[str, VerifiedTables, Model]]:
    """Tables on which a wrong step shows: ties, few bits, far tokens, words to count."""
    rng = np.random.default_rng(77)
    for name in ("votes", "votes, outputs 0 and 1 equal"):
        votes = tight(name, "real")
        yield name, verify_tables(votes.model, votes.tables), votes.model
    drawn = np.random.default_rng(236)
    v, k = int(drawn.integers(3, 7)), int(drawn.integers(2, 5))
    like_max = {"sharpness": drawn.uniform(0, 0.5), "noise": drawn.uniform(0, 0.5)}
    biased = max_like_model(drawn, k=k, v=v, **like_max)
    biased = replace(biased, b_U=float32(np.eye(v)[-1] * 3.48))
    models = {
        "like max": max_like_model(rng, k=4, v=6, sharpness=0.8, noise=0.5),
        "like max, 9 tokens": max_like_model(rng, k=3, v=9, sharpness=0.5, noise=0.4),
        "like max, long": max_like_model(rng, k=6, v=3, sharpness=1.0, noise=0.4),
        "biased to the last": biased,
        "outputs to spare": random_model(rng, k=3, v=4, d=3, h=2, outputs=6, scale=1.0),
        "saturated": random_model(rng, k=3, v=4, d=3, h=2, scale=60.0),
    }
    for name, model in models.items():
        tables = integer_tables(model)
        yield name, verify_tables(model, tables), model
        yield f"{name}, loose", verify_tables(model, widened(rng, tables)), model


def altered_claims(case: Case) -> Iterator[Case]:
    """Claims that say one more than was proved, and a file edited without a new digest."""
    fields = claim_of(case.data)
    for name in ("undecided", "unexplained_dimension"):
        changed = altered(case.data, **{name: str(int(fields[name]) + 1)})
        yield Case(f"{case.name}, {name} more", changed, case.model, "REJECTED")
    flops = fields["flops"].encode()
    edited = case.data.replace(b'"flops\\":\\"' + flops, b'"flops\\":\\"' + b"9" * len(flops))
    yield Case(f"{case.name}, edited", edited, case.model, "MALFORMED")


def sign_bytes(claim: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """As ``sign``, for tensors of bytes."""
    fields = {name: value for name, value in claim.items() if name != "digest"}
    digest = hashlib.sha256(f"compactproofs certificate 1\n{checker.canonical(fields)}".encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} U8 {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].tobytes())
    fields["digest"] = digest.hexdigest()
    return save(tensors, metadata={"claim": checker.canonical(fields)})


def covered_twice(model: Model) -> Case:
    """Parts that count one query twice and leave another out, with the sums that belong to them."""
    task, tables = MaxOfK(model.n_ctx, model.d_vocab), verify_tables(model, integer_tables(model))
    ranges = range(1), range(1), range(2, task.v)
    parts = [cubic(tables, PartOfTask(task, part), CubicOptions()) for part in ranges]
    data = [encode_certificate(part) for part in parts]
    sums = {name: sum(getattr(part.claim, name) for part in parts) for name in checker.NUMBERS}
    fields = claim_of(encode_certificate(cubic(tables, task, CubicOptions())))
    fields |= {name: str(number) for name, number in sums.items()}
    fields |= {"theorem": "composed", "bound": checker.bound_of(sums)}
    tensors = {f"part.{n}": np.frombuffer(one, dtype=np.uint8) for n, one in enumerate(data)}
    return Case("a query twice", sign_bytes(fields, tensors), model, "REJECTED")


@cache
def counted() -> tuple[Case, ...]:
    """Honest certificates, and such that say something else than was counted."""
    rng = np.random.default_rng(5)
    found: list[Case] = []
    for name, tables, model in telling():
        task = MaxOfK(model.n_ctx, model.d_vocab)
        for proved in proofs(rng, tables, task):
            data = encode_certificate(proved)
            title = f"{name}: {proved.claim.theorem}"
            found.append(Case(title, data, model, proved.outcome.name, proved))
    found += [other for case in found[::25] for other in altered_claims(case)]
    found += honest(1)
    for case in [case for case in found if case.name.endswith("composed")]:
        tensors = load(case.data)
        swapped = {"part.0": tensors["part.1"], "part.1": tensors["part.0"]}
        data = sign_bytes(claim_of(case.data), swapped)
        found.append(Case(f"{case.name}, swapped", data, case.model, "REJECTED"))
    return (*found, covered_twice(random_model(rng, k=2, v=4, d=3, h=2)))


@cache
def tables() -> tuple[Case, ...]:
    """Tables as tight as can be, which hold, and a little tighter, which do not."""
    found: list[Case] = []
    for name, semantics in (
        ("random", "real"),
        ("random", "float32"),
        ("tiny", "float32"),
        ("cancelling", "float32"),
    ):
        case = tight(name, semantics)
        accepted = with_tables(case.tables, case)
        outcome = kernel.check(accepted, case.model).outcome.name
        found.append(Case(f"{name}: tight ({semantics})", accepted, case.model, outcome))
        found += [
            Case(f"{name}: {title}", with_tables(tables, case), case.model, "REJECTED")
            for title, tables in case.spoilt()
        ]
    return tuple(found)
