"""Does the length of each proof grow as its docstring says? Trains models over v and k and fits.

For every theorem the counted FLOPs of all sizes are fitted by the terms of its cost formula with
non-negative coefficients (relative least squares); the fit is then asked for sizes it has not seen.
Writes ``results/proof_length.json``; the committed one is of ``--steps 300``.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np

import compactproofs as cp
from compactproofs._ladder import Strategy, measure, strategies
from compactproofs.training import TrainSettings, train_max_of_k

RESULTS = Path(__file__).resolve().parent / "results" / "proof_length.json"
D_MODEL = 32
SIZES = [*product((24, 32, 48, 64, 96), (3, 4, 6)), (64, 10), (32, 10), (128, 4)]
UNSEEN = [(80, 5), (112, 4), (48, 8)]

# Leading terms in v, k and d (outputs x = v): as in the docstrings, with every term that is not
# dominated by another for all v, k, d.
TERMS = {
    "additive": ("v^4 k", "v^3 k", "v^2 k b", "v^2 d", "v d^2"),
    "brute-force": ("v^(k+1) k", "v^k", "v^2 k", "v^2 d"),
    "cubic": ("v^3 k", "v^3", "v^2 k", "v^2 d", "v d^2"),
    "windowed": ("v^3 k", "v^3 g k", "v^2 k b", "v^2 d", "v d^2"),
    "collapsed-cubic": ("v^3 k", "v^3", "v^2 k b", "v^2 d", "v d^2"),
    "collapsed-subcubic": ("v^2 g k", "v^2 k", "v^2 k b", "v^2 d", "v d^2"),
    "subcubic": ("v^2 k^2", "v^2 k", "v^2 d", "v d^2", "v k d"),
}


def term(formula: str, v: int, k: int, options: dict[str, int | str]) -> float:
    """The value of a product such as ``v^2 k b``; b stands for bins times limbs of a count."""
    limbs = max(4, ((k - 1) * np.log2(v) + 8) // 8) / 8
    bins = options.get("bins", 1)
    window = options.get("window", 1)
    known = {
        "v": v,
        "k": k,
        "d": D_MODEL,
        "g": float(window),
        "b": float(bins) * limbs,
        "v^2": v**2,
        "v^3": v**3,
        "v^4": v**4,
        "k^2": k**2,
        "d^2": D_MODEL**2,
        "v^k": v**k,
        "v^(k+1)": v ** (k + 1),
    }
    return float(np.prod([known[part] for part in formula.split()]))


def fit(
    terms: tuple[str, ...], rows: list[tuple[int, int, int]], options: dict[str, int | str]
) -> np.ndarray:
    """Coefficients that are not negative, by dropping terms until none is."""
    active = list(range(len(terms)))
    while True:
        design = np.array([[term(terms[j], v, k, options) / y for j in active] for v, k, y in rows])
        found = np.linalg.lstsq(design, np.ones(len(rows)), rcond=None)[0]
        if (found >= 0).all():
            result = np.zeros(len(terms))
            result[active] = found
            return result
        active.pop(int(found.argmin()))


def chosen() -> list[Strategy]:
    names = (
        "cubic,additive bins=128,windowed window=8 bins=256,collapsed-cubic bins=256,"
        "collapsed-subcubic window=8 bins=256,brute-force,"
    )
    return strategies(names.rstrip(",")) + [
        s for s in strategies("families") if s.theorem == "subcubic"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    lengths: dict[str, dict[tuple[int, int], int]] = {}
    by_name = {s.name: s for s in chosen()}
    for v, k in [*SIZES, *UNSEEN]:
        trained = train_max_of_k(TrainSettings(k=k, v=v, d_model=D_MODEL, steps=steps, seed=1))
        model = cp.load_model(_saved(trained))
        task = cp.parse_task(f"max:k={k},v={v}")
        wanted = [s for s in by_name.values() if s.theorem != "brute-force" or v**k <= 2**21]
        for point in measure(model, task, wanted, samples=1000)["points"]:
            lengths.setdefault(point["name"], {})[v, k] = point["flops"]
        print(f"v={v} k={k} measured", flush=True)
    report = []
    for name, measured in lengths.items():
        strategy = by_name[name]
        options = dict(strategy.options)
        seen = [(v, k, y) for (v, k), y in measured.items() if (v, k) not in UNSEEN]
        terms = TERMS[strategy.theorem]
        coefficients = fit(terms, seen, options)

        def predicted(v: int, k: int) -> float:
            values = [term(t, v, k, options) for t in terms]  # noqa: B023
            return float(np.dot(coefficients, values))  # noqa: B023

        errors = {
            f"v={v},k={k}": predicted(v, k) / measured[v, k] - 1
            for v, k in UNSEEN
            if (v, k) in measured
        }
        report.append(
            {
                "strategy": name,
                "terms": dict(zip(terms, coefficients.round(3).tolist(), strict=True)),
                "worst_relative_error_fitted": max(
                    abs(predicted(v, k) / y - 1) for v, k, y in seen
                ),
                "relative_error_unseen": errors,
                "flops": {f"v={v},k={k}": y for (v, k), y in measured.items()},
            }
        )
        print(name, report[-1]["terms"], report[-1]["worst_relative_error_fitted"], errors)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def _saved(trained) -> Path:  # type: ignore[no-untyped-def]
    import tempfile

    folder = Path(tempfile.mkdtemp()) / "model"
    cp.save_model(folder, trained.config, trained.tensors)
    return folder


if __name__ == "__main__":
    main()
