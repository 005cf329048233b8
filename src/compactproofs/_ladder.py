"""The ladder: every strategy on one model, from the shortest proof to brute force.

A ``Strategy`` is a theorem with its options, in a family. ``measure`` proves with each and returns
plain data: what ``compactproofs frontier`` prints, a sweep stores and the report draws.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._proving import prove
from .estimate import sample_accuracy
from .explain.refine import Budget, refine
from .kernel import (
    THEOREMS,
    Model,
    OptionError,
    Proved,
    Task,
    Tick,
    VerifiedTables,
    integer_tables,
    no_tick,
    require_fit,
    verify_tables,
)

EXHAUSTIVE = 1 << 25
"""Up to so many sequences the accuracy is found by proof (brute force), beyond it is sampled."""

ERRORS = {
    "exact_EQKE+max_diff_exact": "",
    "max_diff_exact": "",
    "svd": "attention-vd²",
    "max_diff": "attention-vd²",
    "mean+max_diff": "attention-vd²",
    "max_diff_subproduct": "attention-vd²",
    "mean+max_diff_subproduct": "attention-vd²",
    "max_diff_subproduct_recursive": "attention-quadratic",
    "mean+max_diff_subproduct_recursive": "attention-quadratic",
    "mean_recursive+max_diff_subproduct_recursive": "attention-quadratic",
}
"""The attention-error options of the sub-cubic family, and what they make of its name."""

DIRECTS = {
    "max_diff_exact": "",
    "global_max_diff_exact": "",
    "mean_query+max_diff": "direct-quadratic",
    "svd_query+max_diff": "direct-quadratic",
    "max_diff": "direct-quadratic",
}
AVERAGINGS = ("mean_query+diff", "drop_average")


@dataclass(frozen=True)
class Strategy:
    """A theorem with its options."""

    name: str
    theorem: str
    options: tuple[tuple[str, int | str], ...]
    family: str


def _strategy(theorem: str, family: str, **options: int | str) -> Strategy:
    if theorem == "subcubic":
        name = "subcubic " + "/".join(
            str(options[part]) for part in ("direct", "averaging", "attention_error")
        )
    else:
        name = " ".join([theorem, *(f"{key}={value}" for key, value in options.items())])
    return Strategy(name, theorem, tuple(options.items()), family)


def _subcubic(direct: str, averaging: str, error: str) -> Strategy:
    family = ", ".join(part for part in (ERRORS[error], DIRECTS[direct]) if part) or "subcubic"
    return _strategy("subcubic", family, direct=direct, averaging=averaging, attention_error=error)


def subcubic_strategies() -> list[Strategy]:
    """All 100 of the paper's sub-cubic family."""
    return [
        _subcubic(direct, averaging, error)
        for error in ERRORS
        for direct in DIRECTS
        for averaging in AVERAGINGS
    ]


_OURS = (
    *(
        _strategy("collapsed-subcubic", "collapsed sub-cubic", window=window, bins=bins)
        for window, bins in ((4, 32), (8, 64), (8, 256), (16, 512))
    ),
    *(_strategy("collapsed-cubic", "collapsed cubic", bins=bins) for bins in (32, 256)),
    *(_strategy("windowed", "windowed", window=window, bins=256) for window in (1, 2, 4, 8, 16)),
    *(_strategy("additive", "additive", bins=bins) for bins in (128, 1024)),
)
REFINED = Strategy("additive refined", "additive", (), "additive, refined")
"""``additive`` with the efforts that ``explain.refine`` finds in ``refining(k)`` seconds."""
_REFINABLE = 1 << 17  # v^2 k: beyond, the seconds do not suffice for every class


def refining(k: int) -> float:
    """Seconds that refining is given: 30, more where sequences are longer than 10 tokens."""
    return 30.0 * max(1.0, k / 10)


_CUBIC = _strategy("cubic", "cubic")
_BRUTE_FORCE = _strategy("brute-force", "brute force")

# The best strategies of the paper's families on trained models; which of them is best varies.
_BEST = tuple(
    _subcubic(direct, AVERAGINGS[0], error)
    for error in (
        "exact_EQKE+max_diff_exact",
        "max_diff_subproduct",
        "mean+max_diff_subproduct_recursive",
    )
    for direct in ("max_diff_exact", "mean_query+max_diff")
)
_FAMILIES = (
    _CUBIC,
    *_BEST,
    *(
        s
        for s in _OURS
        if s.name
        in (
            "collapsed-subcubic window=8 bins=256",
            "collapsed-cubic bins=256",
            "windowed window=8 bins=256",
            "additive bins=128",
        )
    ),
)


def strategies(which: str = "all") -> list[Strategy]:
    """The strategies of a choice.

    which: ``all``; ``families`` (the best of each family, without refinement); ``refined``; names
    of strategies, families or theorems; or several of these, separated by commas. Raises
    OptionError with the valid names.
    """
    every = [_BRUTE_FORCE, _CUBIC, *subcubic_strategies(), *_OURS, REFINED]
    groups = {"all": every, "families": [_BRUTE_FORCE, *_FAMILIES], "refined": [REFINED]}
    chosen: list[Strategy] = []
    for name in (part.strip() for part in which.split(",")):
        found = groups.get(name) or [s for s in every if name in (s.name, s.theorem, s.family)]
        if not found:
            raise OptionError(
                f"unknown strategy {name!r}: write all, families, refined, or one of "
                + ", ".join(sorted({s.theorem for s in every} | set(THEOREMS)))
                + ", or a strategy's whole name as the command frontier prints it"
            )
        chosen += [s for s in found if s not in chosen]
    return chosen


def applicable(task: Task, chosen: Sequence[Strategy]) -> list[Strategy]:
    """Without brute force where it would not end, and without what is about max-of-k alone."""
    is_max = task.name.startswith("max:")
    return [
        s
        for s in chosen
        if (task.total <= EXHAUSTIVE or s.theorem != "brute-force")
        and (is_max or s.theorem not in ("cubic", "subcubic"))
        and (s is not REFINED or task.v**2 * task.k <= _REFINABLE)
    ]


def measure(
    model: Model,
    task: Task,
    chosen: Sequence[Strategy],
    tick: Tick = no_tick,
    samples: int = 1_000_000,
    name: str = "",
) -> dict[str, Any]:
    """Prove with each strategy; returns the plain data of a frontier (docs/ladder.md has its form).

    samples: how many sequences estimate the accuracy where there are too many for brute force.
    Cost: that of the theorems and of their searches.
    """
    require_fit(task, model)
    chosen = applicable(task, chosen)
    began = time.perf_counter()
    claimed = integer_tables(model)
    tables = verify_tables(model, claimed)
    verifying = time.perf_counter() - began
    points: list[dict[str, Any]] = []
    for done, (strategy, proved, searching, proving) in enumerate(
        _proofs(model, tables, task, chosen)
    ):
        tick(done, len(chosen) + 1)
        points.append(
            {
                "name": strategy.name,
                "theorem": strategy.theorem,
                "options": dict(strategy.options),
                "family": strategy.family,
                "correct": str(proved.claim.correct),
                "bound": proved.claim.correct / proved.claim.total,
                "outcome": proved.outcome.name,
                "flops": proved.claim.flops,
                "radius_flops": proved.claim.radius_flops,
                "unexplained_dimension": proved.claim.unexplained_dimension,
                "seconds_search": round(searching, 4),
                "seconds_verify": round(
                    proving + (verifying if strategy.theorem != "subcubic" else 0.0), 4
                ),
            }
        )
    tick(len(chosen), len(chosen) + 1)
    accuracy = _accuracy(model, task, points, samples)
    for point in points:
        point["normalised"] = point["bound"] / accuracy["value"] if accuracy["value"] else 0.0
    return {
        "model": name,
        "model_sha256": model.sha256,
        "task": task.name,
        "total": str(task.total),
        "accuracy": accuracy,
        "trivial": {"bound": trivial_bound(task), "flops": 0},
        "qk_singular_values": qk_singular_values(model),
        "points": points,
        "pareto": pareto(points),
    }


def _proofs(
    model: Model, tables: VerifiedTables, task: Task, chosen: Sequence[Strategy]
) -> Iterator[tuple[Strategy, Proved, float, float]]:
    """Each strategy's proof, with seconds of search and of the theorem."""
    low_rank = [s for s in chosen if s.theorem == "subcubic"]
    searches: dict[Strategy, tuple[Mapping[str, np.ndarray], float]] = {}
    if low_rank:
        from .explain.subcubic import find_subcubic_witnesses

        options = [THEOREMS["subcubic"].parse_options(dict(s.options)) for s in low_rank]
        began = time.perf_counter()
        found = find_subcubic_witnesses(model, task, options)
        for strategy, witness in zip(low_rank, found, strict=True):
            now = time.perf_counter()
            searches[strategy] = witness._asdict(), now - began
            began = now
    for strategy in chosen:
        witness, searching = searches.pop(strategy, (None, 0.0))
        began = time.perf_counter()
        if strategy is REFINED:
            witness = refine(model, task, Budget(seconds=refining(task.k)))
            searching, began = time.perf_counter() - began, time.perf_counter()
        proved = prove(
            model,
            task,
            strategy.theorem,
            dict(strategy.options),
            tables=tables,
            witness=witness,
        )
        yield strategy, proved, searching, time.perf_counter() - began


def _accuracy(
    model: Model, task: Task, points: Sequence[Mapping[str, Any]], samples: int
) -> dict[str, Any]:
    exact = next((p for p in points if p["theorem"] == "brute-force"), None)
    if exact is None and task.total <= EXHAUSTIVE:
        proved = prove(model, task, "brute-force")
        exact = {"bound": proved.claim.correct / proved.claim.total}
    if exact is not None:
        value = exact["bound"]
        return {
            "kind": "exact",
            "value": value,
            "low": value,
            "high": value,
            "sequences": task.total,
        }
    found = sample_accuracy(model, task, samples=samples, seed=0)
    return {
        "kind": "sampled",
        "value": found.estimate,
        "low": found.low,
        "high": found.high,
        "sequences": samples,
    }


def trivial_bound(task: Task) -> float:
    """The share of the commonest label: what a constant answer gets."""
    by_label: dict[int, int] = {}
    for _, label, words in task.classes():
        by_label[label] = by_label.get(label, 0) + words.size
    return max(by_label.values()) / task.total


def qk_singular_values(model: Model, first: int = 8) -> list[float]:
    """The largest singular values of the unscaled QK circuit ``A`` (mean position), descending."""
    at_query = model.W_E + model.W_pos[-1]
    mean = model.W_E + model.W_pos.mean(axis=0)
    circuit = (at_query @ model.W_Q + model.b_Q) @ (mean @ model.W_K + model.b_K).T
    return [float(s) for s in np.linalg.svd(circuit, compute_uv=False)[:first]]


def pareto(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the points that no other beats: at least its bound with at most its FLOPs."""
    best, names = -1, []
    for point in sorted(points, key=lambda p: (p["flops"], -int(p["correct"]))):
        if int(point["correct"]) > best:
            best = int(point["correct"])
            names.append(point["name"])
    return names
