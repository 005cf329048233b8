"""Does the length of each proof grow as its docstring says? Proves over v, k and d, and fits.

The length of a theorem from tables falls into two parts, told apart by wrapping the kernel's
functions from outside:

* *fixed*: enclosures, terms, maxima, worst cases. It depends on the sizes alone, and its formula
  holds no other number.
* *counting* (T5 of the classes that the worst case leaves open; brute force: its second pass). It
  depends on the model. Its formula is in numbers counted apart from the ledger: ``N`` numbers of
  open outputs, ``C`` numbers read by counted rows (``C log c``: with the logarithm of the columns,
  where they are binned), ``L`` 64-bit limbs of polynomials shifted, scaled or added, ``P``
  products of two limbs; ``D`` sequences that reach the second pass.

Each part is fitted with non-negative coefficients (relative least squares) to trained, briefly
trained and untrained models and to votes (every open output is counted: the most rows), and
asked for models of sizes it has not seen. Then every length is compared with an upper bound whose
constants are stated here, in the sizes alone (and ``D``), and the counts of votes with formulas in
the sizes alone. Writes
``results/proof_length.json``; the committed one is of the default ``--steps``.
"""

import argparse
import importlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import product
from math import log2
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

import compactproofs as cp
from compactproofs._ladder import measure, strategies
from compactproofs.kernel import Model, integer_tables, verify_tables
from compactproofs.kernel import _counting as counting
from compactproofs.kernel import _margins as margins
from compactproofs.kernel import _slack as slack
from compactproofs.training import TrainSettings, train_max_of_k

RESULTS = Path(__file__).resolve().parent / "results" / "proof_length.json"
SIZES = [*product((24, 32, 48, 64), (3, 4, 6)), (32, 10), (96, 3), (96, 4)]
SMALL = [*product((8,), (3, 4, 5, 6, 7)), *product((16,), (3, 4, 5))]
"""For brute force, which goes on to 2^21 sequences."""
UNSEEN = [(12, 5), (20, 4), (40, 3), (40, 5), (48, 8), (80, 5), (112, 4)]
EXHAUSTIVE = 1 << 21
VOTES = 40
"""The largest vocabulary of votes, which have v^3 rows."""

SETTINGS: dict[str, list[dict[str, int]]] = {
    "brute-force": [{}],
    "cubic": [{}],
    "additive": [{"bins": 128}, {"bins": 512}],
    "windowed": [{"window": 8, "bins": 256}, {"window": 4, "bins": 64}],
    "collapsed-cubic": [{"bins": 256}, {"bins": 64}],
    "collapsed-subcubic": [{"window": 8, "bins": 256}, {"window": 16, "bins": 64}],
}
"""The second of two only up to ``v = 32``, and not for votes."""

ENCLOSING = ("v^2 k", "v^2 d", "v d^2", "k d^2")
FIXED = {
    "brute-force": ("v^k x", "v^k x / k", "v^3 (k-1)", "v^3 x (k-1)", *ENCLOSING),
    "cubic": ("v^3 (k-1) log k", "v^3 (k-1)", "v^3", *ENCLOSING),
    "additive": ("v^3 x (k-1)", "v^3 (k-1)", "v^3", *ENCLOSING),
    "windowed": ("v^2 g x (k-1)", "v^2 x (k-1)", "v^3", *ENCLOSING),
    "collapsed-cubic": ("v^3 (k-1)", "v^3", *ENCLOSING),
    "collapsed-subcubic": ("v^2 g (k-1)", *ENCLOSING, "v^2"),
}
SLACK = ("N", "C", "C log c", "L", "P")
SUBCUBIC = ("v^2 k^2", "v k^2", "v^2 k", "v k d", "v^2", *ENCLOSING[1:])
MEASURED = {
    "brute-force": ("D k x",),
    "cubic": (),
    "additive": SLACK,
    "windowed": SLACK,
    "collapsed-cubic": SLACK,
    "collapsed-subcubic": SLACK,
}
VOTING = {
    "additive": {
        "rows": ("v^2 x", "v^2"),
        "N": ("v^3 x (k-1)", "v^3 (k-1)"),
        "L": ("v^2 x (k-1) b", "v^2 x (k-2) b"),
    },
    "windowed": {
        "rows": ("v^2 x", "v^2"),
        "N": ("v^2 g x (k-1)", "v^2 x (k-1)"),
        "L": ("v^2 x (k-1) b", "v^2 x (k-2) b"),
    },
    "collapsed-cubic": {
        "rows": ("v^2", "v"),
        "N": ("v^3 (k-1)", "v^2 (k-1)"),
        "L": ("v^2 (k-1) b", "v^2 (k-2) b"),
    },
    "collapsed-subcubic": {
        "rows": ("v^2", "v"),
        "N": ("v^2 g (k-1)", "v^2 (k-1)"),
        "L": ("v^2 (k-1) b", "v^2 (k-2) b"),
    },
}
"""Rows counted for votes, numbers of open outputs and limbs; ``b`` limbs hold all bins."""
ENCLOSED = {"v^2 d": 8, "v d^2": 9, "k d^2": 8}
BOUNDS: dict[str, dict[str, int]] = {
    "brute-force": {"v^k x": 2, "v^k x / k": 4, "v^3 x (k-1)": 3, "v^3 (k-1)": 12, "v^2 k": 20}
    | {"D k x": 14}
    | ENCLOSED,
    "cubic": {"v^3 (k-1) log k": 1, "v^3 (k-1)": 6, "v^3": 12, "v^2 k": 40} | ENCLOSED,
    "additive": {"v^3 x (k-1)": 3, "v^3 (k-1)": 8, "v^3": 8, "v^2 k": 20} | ENCLOSED,
    "windowed": {"v^2 g x (k-1)": 3, "v^2 x (k-1)": 20, "v^3": 8, "v^2 k": 20} | ENCLOSED,
    "collapsed-cubic": {"v^3 (k-1)": 3, "v^3": 8, "v^2 k": 30} | ENCLOSED,
    "collapsed-subcubic": {"v^2 g (k-1)": 4, "v^2 k": 45, "v^2": 20} | ENCLOSED,
}
BOUNDS_SUBCUBIC = {"v^2 k^2": 20, "v^2 k": 80, "v^2": 80, "v k d": 20} | {
    term: 40 for term in ("v^2 d", "v d^2", "k d^2")
}
"""Of the fixed part and brute force; ``upper_bound`` adds that of counting."""


class Run(NamedTuple):
    """One proof."""

    theorem: str
    model: str
    v: int
    k: int
    d: int
    options: dict[str, int]
    fixed: int
    counting: int
    counts: Counter[str]

    @property
    def flops(self) -> int:
        """The whole length."""
        return self.fixed + self.counting

    @property
    def name(self) -> str:
        """The model and the options."""
        options = "".join(f" {name}={value}" for name, value in self.options.items())
        return f"{self.model} v={self.v} k={self.k} d={self.d}{options}"

    @property
    def seen(self) -> bool:
        """Whether the fit is to this size."""
        return (self.v, self.k) not in UNSEEN

    @property
    def limbs(self) -> int:
        """64-bit limbs that hold the counts of all bins, at most."""
        slot = max(4, (int((self.k - 1) * log2(self.v)) + 9) // 8)
        return _limbs(8 * slot * (self.options.get("bins", 0) + self.k))

    def term(self, formula: str) -> float:
        """The value of a product such as ``v^2 g (k-1)``."""
        v, k, d = self.v, self.k, self.d
        known: dict[str, float] = {
            "v": v,
            "x": v,  # max-of-k has an output for each token
            "k": k,
            "(k-1)": k - 1,
            "(k-2)": k - 2,
            "d": d,
            "g": min(self.options.get("window", v), v),
            "/ k": 1 / k,
            "k^2": k**2,
            "log k": (k - 1).bit_length(),
            "log v": v.bit_length(),
            "b": self.limbs,
            "v^2": v**2,
            "v^3": v**3,
            "d^2": d**2,
            "v^k": v**k,
            **{name: self.counts[name] for name in ("N", "C", "C log c", "L", "P", "D")},
        }
        names = ("/ k", "log k", "log v", "C log c")
        for name in names:
            formula = formula.replace(name, name.replace(" ", "_"))
        parts = formula.split()
        return float(np.prod([known[part.replace("_", " ")] for part in parts]))


@contextmanager
def watched(counts: Counter[str]) -> Iterator[None]:
    """Count what the kernel counts words with, from outside."""
    wrong_words, worst_word = slack.wrong_words, slack.worst_word
    count_within_slack, multiply = slack.count_within_slack, counting._multiply
    of_sequences = margins.Margins.of_sequences

    def watch_worst(terms: Any, words: Any) -> Any:
        ledger = terms.at_query.ledger
        before = ledger.flops
        worst = worst_word(terms, words)
        counts["worst"] += ledger.flops - before + worst.size  # and their comparison with 0
        return worst

    def watch_wrong(terms: Any, words: Any, bins: int, ledger: Any) -> int:
        before = ledger.flops
        wrong = wrong_words(terms, words, bins, ledger)
        counts["slack"] += ledger.flops - before
        return wrong

    def watch_rows(
        words: Any, slack: Any, letters: Any, budgets: Any, bins: int, ledger: Any, *rest: Any
    ) -> Iterator[int]:
        _, positions, columns = slack.shape
        counts["N"] += slack.size
        rows = count_within_slack(words, slack, letters, budgets, bins, ledger, *rest)
        for budget, wrong in zip(budgets, rows, strict=False):
            counts["rows"] += 1
            counts["C"] += positions * columns
            counts["C log c"] += positions * columns * columns.bit_length() * (budget > bins)
            yield wrong

    def watch_product(polynomial: int, factor: Any, limit: int, slot: int, ledger: Any) -> int:
        bits, step = polynomial.bit_length(), 8 * slot
        limbs = _limbs(bits)
        packed = 3 * len(factor.bins) >= _limbs(step * (limit + 1))
        if packed and polynomial:
            counts["P"] += limbs * _limbs(step * (factor.bins[-1] + 1))
        else:
            counts["L"] += sum(limbs * (1 + (count > 1)) for count in factor.counts)
            counts["L"] += bool(bits) * sum(_limbs(bits + step * at) for at in factor.bins[1:])
        result = multiply(polynomial, factor, limit, slot, ledger)
        counts["L"] += _limbs((result & ((1 << (step * (limit + 1))) - 1)).bit_length())
        return result

    def watch_sequences(self: margins.Margins, tokens: Any) -> Any:
        counts["D"] += len(tokens)
        before = self._weight_high.ledger.flops  # type: ignore[union-attr]
        found = of_sequences(self, tokens)
        counts["second"] += self._weight_high.ledger.flops - before  # type: ignore[union-attr]
        counts["second"] += 2 * found[0].size  # signs
        return found

    with ExitStack() as stack:
        for theorem in ("additive", "windowed", "collapsed"):
            module = importlib.import_module(f"compactproofs.kernel.theorems.{theorem}")
            stack.enter_context(patch.object(module, "wrong_words", watch_wrong))
        stack.enter_context(patch.object(slack, "worst_word", watch_worst))
        stack.enter_context(patch.object(slack, "count_within_slack", watch_rows))
        stack.enter_context(patch.object(counting, "_multiply", watch_product))
        stack.enter_context(patch.object(margins.Margins, "of_sequences", watch_sequences))
        yield


def _limbs(bits: int) -> int:
    return -(-bits // 64) or 1


def fit(terms: tuple[str, ...], runs: list[Run], lengths: list[int]) -> np.ndarray:
    """Coefficients that are not negative, by dropping terms until none is."""
    design = np.array([[r.term(t) / y for t in terms] for r, y in zip(runs, lengths, strict=True)])
    scale = design.max(axis=0)
    active = [j for j in range(len(terms)) if scale[j] > 0]
    while True:
        found = np.linalg.lstsq(design[:, active] / scale[active], np.ones(len(runs)))[0]
        if (found >= 0).all():
            result = np.zeros(len(terms))
            result[active] = found / scale[active]
            return result
        active.pop(int(found.argmin()))


def models(steps: int, v: int, k: int) -> Iterator[tuple[str, int, Model]]:
    """The models of a size: how it came about, its width, the model."""
    kinds = [("trained", 32, steps)]
    if v <= 64:
        kinds.append(("untrained", 16, 1))
    if v <= 48:
        kinds.append(("brief", 64, 100))
    for kind, d, length in kinds:
        yield kind, d, _model(TrainSettings(k=k, v=v, d_model=d, steps=length, seed=1))
    if 16 <= v <= VOTES and 4 <= k <= 6:
        yield "votes", 2 * v, votes(k, v)


def _model(settings: TrainSettings) -> Model:
    trained = train_max_of_k(settings)
    with tempfile.TemporaryDirectory() as folder:
        cp.save_model(Path(folder) / "model", trained.config, trained.tensors)
        return cp.load_model(Path(folder) / "model")


def votes(k: int, v: int) -> Model:
    """Uniform attention; tokens but the query vote for themselves, larger ones for a little more.

    An output ``x`` below the label is wrong if it has more votes, so that (for k >= 4) it is open
    and few words are wrong against it: no sum over outputs reaches the joint count, and all of them
    are counted.
    """
    nothing, eye = np.zeros((v, v)), np.eye(v)
    weight = np.diag(1 + np.arange(v) / (2 * v))
    read, write = np.vstack([eye, nothing]), np.hstack([nothing, eye])
    square, bias = np.zeros((2 * v, 2 * v)), np.zeros(2 * v)
    return Model(
        score_divisor_squared=Fraction(1),
        W_E=np.hstack([eye, nothing]),
        W_pos=np.zeros((k, 2 * v)),
        W_Q=square,
        W_K=square,
        W_V=np.hstack([read, 0 * read]),
        W_O=np.vstack([write, 0 * write]),
        W_U=np.vstack([-weight / k, weight]),
        b_Q=bias,
        b_K=bias,
        b_V=bias,
        b_O=bias,
        b_U=np.zeros(v),
    )


def prove_all(kind: str, d: int, model: Model, v: int, k: int) -> Iterator[Run]:
    task = cp.parse_task(f"max:k={k},v={v}")
    tables = verify_tables(model, integer_tables(model))
    for theorem, settings in SETTINGS.items():
        brute = theorem == "brute-force"
        if (v**k > EXHAUSTIVE) if brute else (v < 24):
            continue
        for options in settings[: None if v <= 32 and kind != "votes" else 1]:
            counts: Counter[str] = Counter()
            with watched(counts):
                flops = cp.prove(model, task, theorem, options, tables=tables).claim.flops
            part = counts["slack"] - counts["worst"] if not brute else counts["second"]
            yield Run(theorem, kind, v, k, d, options, flops - part, part, counts)


def upper_bound(run: Run) -> float:
    """The length at most, in the sizes and (for brute force) the doubtful sequences."""
    v, k = run.v, run.k
    bounds = BOUNDS.get(run.theorem, BOUNDS_SUBCUBIC)
    bound = sum(constant * run.term(t) for t, constant in bounds.items())
    if run.theorem in VOTING:
        rows = v if run.theorem in ("additive", "windowed") else 1
        columns = v if "window" not in run.options else min(v, run.options["window"] + 2)
        read = columns * (16 + columns.bit_length())
        limbs = (8 * min(columns, run.limbs / 3) + 12) * run.limbs
        bound += v * (v + 1) / 2 * rows * (k - 1) * (read + limbs)
    return bound


def confirm(terms: tuple[str, ...], runs: list[Run], lengths: list[int]) -> dict[str, Any]:
    """The fit to the sizes seen, and its errors: relative to the part, and to the whole."""
    seen = [(r, y) for r, y in zip(runs, lengths, strict=True) if r.seen and y]
    coefficients = fit(terms, [r for r, _ in seen], [y for _, y in seen])
    found = {"fitted": (0.0, ""), "unseen": (0.0, "")}
    for run, length in zip(runs, lengths, strict=True):
        predicted = float(coefficients @ [run.term(t) for t in terms])
        which = "fitted" if run.seen else "unseen"
        if length:
            found[which] = max(found[which], (abs(predicted / length - 1), run.name))
        elif predicted:
            raise SystemExit(f"{run.theorem} {run.name}: {predicted} predicted of nothing")
    return {
        "coefficients": dict(zip(terms, coefficients.round(3).tolist(), strict=True)),
        "models_fitted": len(seen),
        "models_unseen": sum(not r.seen for r in runs),
        **{f"worst_relative_error_{which}": error for which, (error, _) in found.items()},
        **{f"worst_{which}": name for which, (_, name) in found.items()},
    }


def report_on(theorem: str, runs: list[Run]) -> dict[str, Any]:
    report: dict[str, Any] = {"theorem": theorem}
    report["fixed"] = confirm(FIXED.get(theorem, SUBCUBIC), runs, [r.fixed for r in runs])
    if terms := MEASURED.get(theorem, ()):
        report["counting"] = confirm(terms, runs, [r.counting for r in runs])
    whole = {"fitted": 0.0, "unseen": 0.0}
    for run in runs:
        predicted = sum(
            value * run.term(term)
            for part in ("fixed", "counting")
            for term, value in report.get(part, {"coefficients": {}})["coefficients"].items()
        )
        which = "fitted" if run.seen else "unseen"
        whole[which] = max(whole[which], abs(predicted / run.flops - 1))
    report["whole"] = {f"worst_relative_error_{which}": error for which, error in whole.items()}
    if theorem in VOTING:
        chosen = [r for r in runs if r.model == "votes"]
        report["votes_by_sizes"] = {
            count: confirm(terms, chosen, [r.counts[count] for r in chosen])
            for count, terms in VOTING[theorem].items()
        }
    used = [(r.flops / upper_bound(r), r.name) for r in runs]
    report["share_of_upper_bound"] = {
        "most": max(used),
        "least": min(used),
        "fixed_constants": BOUNDS.get(theorem, BOUNDS_SUBCUBIC),
        "holds": max(used)[0] <= 1,
    }
    report["flops"] = {r.name: {"fixed": r.fixed, "counting": r.counting} for r in runs}
    return report


def subcubic_runs(kind: str, d: int, model: Model, v: int, k: int) -> Iterator[Run]:
    chosen = [s for s in strategies("families") if s.theorem == "subcubic"]
    for point in measure(model, cp.parse_task(f"max:k={k},v={v}"), chosen, samples=1000)["points"]:
        yield Run(point["name"], kind, v, k, d, {}, point["flops"], 0, Counter())


def measured(steps: int) -> Iterator[Run]:
    for v, k in [*SMALL, *SIZES, *UNSEEN]:
        for kind, d, model in models(steps, v, k):
            yield from prove_all(kind, d, model, v, k)
            if v >= 24 and kind != "votes":
                yield from subcubic_runs(kind, d, model, v, k)
        print(f"v={v} k={k} measured", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    write(list(measured(parser.parse_args().steps)))


def write(runs: list[Run]) -> None:
    names = list(dict.fromkeys(r.theorem for r in runs))
    report = [report_on(name, [r for r in runs if r.theorem == name]) for name in names]
    for part in report:
        print({name: value for name, value in part.items() if name != "flops"})
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    if not all(part["share_of_upper_bound"]["holds"] for part in report):
        raise SystemExit("a proof is longer than its upper bound")


if __name__ == "__main__":
    main()
