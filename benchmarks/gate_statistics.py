"""The gate's statistics at work: calibration, winner's curse, shift, the drift test, sample sizes.

    python benchmarks/gate_statistics.py

Every experiment has a known truth and a control that must fail. Writes
``results/gate_statistics.json``.
"""

import json
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from compactproofs.kernel.gate._calibration import fixed_sequence, shifted
from compactproofs.kernel.gate._confidence_sequences import confidence_sequence
from compactproofs.kernel.gate._credal import Statement, lower_probability
from compactproofs.kernel.gate._exchangeability import ConformalMartingale
from compactproofs.kernel.gate._proportions import clopper_pearson, lower_mass, upper_risk

RESULTS = Path(__file__).resolve().parent / "results" / "gate_statistics.json"

REPETITIONS = 2000
SAMPLES = 400
DELTA = Fraction(1, 50)
ALPHA = Fraction(1, 20)
KNOB = np.linspace(0.02, 1.0, 50)  # shares of the inputs admitted, nested


def true_risk(t: np.ndarray) -> np.ndarray:
    """P(score <= t and bad) for uniform scores that are bad with probability score^2 / 2."""
    return t**3 / 6


def labelled(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    score = rng.random(n)
    return score, rng.random(n) < score**2 / 2


def counts(score: np.ndarray, bad: np.ndarray) -> list[int]:
    """How many are bad among those that each set of the family admits."""
    return np.searchsorted(np.sort(score[bad]), KNOB, side="right").tolist()


def calibration() -> dict[str, Any]:
    """How often the chosen set's true risk exceeds delta; the plug-in choice is the control."""
    rng = np.random.default_rng(0)
    risk, oracle = true_risk(KNOB), KNOB[true_risk(KNOB) <= float(DELTA)].max()
    violated = {"fixed sequence": 0, "plug-in": 0}
    coverage = {"fixed sequence": 0.0, "plug-in": 0.0}
    for _ in range(REPETITIONS):
        bad = counts(*labelled(rng, SAMPLES))
        passing = [i for i, k in enumerate(bad) if k <= DELTA * SAMPLES]
        for name, chosen in (
            ("fixed sequence", fixed_sequence(bad, SAMPLES, DELTA, ALPHA)),
            ("plug-in", max(passing, default=-1)),
        ):
            violated[name] += bool(chosen >= 0 and risk[chosen] > float(DELTA))
            coverage[name] += float(KNOB[chosen]) if chosen >= 0 else 0.0
    alpha = float(ALPHA)
    limit = alpha + 3 * math.sqrt(alpha * (1 - alpha) / REPETITIONS)
    return {
        "repetitions": REPETITIONS,
        "n": SAMPLES,
        "delta": float(DELTA),
        "alpha": alpha,
        "violated": {name: count / REPETITIONS for name, count in violated.items()},
        "coverage": {name: total / REPETITIONS for name, total in coverage.items()}
        | {"oracle": float(oracle)},
        "limit": limit,
        "within": violated["fixed sequence"] / REPETITIONS <= limit,
    }


def winners_curse(runs: int = 2000) -> dict[str, Any]:
    """The best of all pairs of independent events: is its 99 % lower bound on P(B given A) right?

    Counted on the data that chose it, and on as many fresh ones.
    """
    rng = np.random.default_rng(1)
    truth, alpha, events = Fraction(1, 10), Fraction(1, 100), 60
    wrong = {"same data": 0, "held out": 0}
    for _ in range(runs):
        drawn = [rng.random((400, events)) < 0.1 for _ in range(2)]
        together = drawn[0].T.astype(float) @ drawn[0]
        given = np.diag(together)
        rate = together / np.maximum(given, 1)[:, None]
        np.fill_diagonal(rate, -1)
        a, b = np.unravel_index(int(rate.argmax()), rate.shape)
        for name, data in zip(wrong, drawn, strict=True):
            k, n = int((data[:, a] & data[:, b]).sum()), int(data[:, a].sum())
            wrong[name] += lower_mass(k, n, alpha) > truth
    return {
        "runs": runs,
        "events": events,
        "samples": 400,
        "nominal": 0.01,
        "wrong": {name: count / runs for name, count in wrong.items()},
    }


def reweighting(runs: int = 500, classes: int = 10) -> dict[str, Any]:
    """Classes reweighted by up to 3 after calibration: the true risk against 3 delta.

    Runs whose risk under the lab's own distribution exceeds delta are counted too: they are the
    alpha that calibration may err with, and G2c promises nothing for them.
    """
    rng = np.random.default_rng(2)
    above, worst, erred = 0, 0.0, 0
    shares = np.full(classes, 1 / classes)
    for _ in range(runs):
        quality = rng.dirichlet(np.ones(classes)) * classes  # how bad each class is
        threshold = KNOB[:, None] ** 3 / 6 * np.minimum(quality, 2)  # risk of [set, class]
        chosen = _calibrated(rng, threshold)
        if chosen < 0:
            continue
        lab = float(threshold[chosen] @ shares)
        erred += lab > float(DELTA)
        for _ in range(20):
            weight = _reweighted(rng, classes, threshold[chosen])
            ratio = Fraction(float((weight / shares).max()))
            bound = float(shifted(Fraction(max(lab, 1e-12)), ratio=ratio))
            promised = float(shifted(DELTA, ratio=ratio))
            risk = float(threshold[chosen] @ weight)
            above += risk > promised or risk > bound * (1 + 1e-12)
            worst = max(worst, risk / promised)
    return {
        "runs": runs,
        "reweightings": 20,
        "largest ratio": 3,
        "above B delta": above,
        "largest risk over B delta": worst,
        "calibration erred": erred / runs,
        "alpha": float(ALPHA),
    }


def _calibrated(rng: np.random.Generator, threshold: np.ndarray) -> int:
    label = rng.integers(0, threshold.shape[1], SAMPLES)
    score = rng.random(SAMPLES)
    # a point is bad if its uniform mark is below the density of bad at its score and class
    density = score**2 / 2 * (threshold[-1] * 6)[label]
    return fixed_sequence(counts(score, rng.random(SAMPLES) < density), SAMPLES, DELTA, ALPHA)


def _reweighted(rng: np.random.Generator, classes: int, risk: np.ndarray) -> np.ndarray:
    """Weights of at most 3 times the lab's; every other time the worst, else drawn."""
    most = 3 / classes
    order = np.argsort(-risk) if rng.random() < 0.5 else rng.permutation(classes)
    weight, left = np.zeros(classes), 1.0
    for i in order:
        weight[i] = min(most, left)
        left -= weight[i]
    return weight


def drift_test(runs: int = 500) -> dict[str, Any]:
    """How often the martingale fires on exchangeable scores, and how soon on shifted ones."""
    rng = np.random.default_rng(3)
    alpha = Fraction(1, 20)
    fired = 0
    for _ in range(runs):
        test = ConformalMartingale(alpha, rng.normal(size=200).tolist())
        for score in rng.normal(size=300).tolist():
            test.update(score)
        fired += test.fired
    delays = {}
    for quiet in (0, 1000):
        for shift in (1.0, 2.0):
            waited = []
            for _ in range(30):
                test = ConformalMartingale(Fraction(1, 100), rng.normal(size=200).tolist())
                for score in rng.normal(size=quiet).tolist():
                    test.update(score)
                for score in (rng.normal(size=500) + shift).tolist():
                    if test.fired:
                        break
                    test.update(score)
                waited.append(test.seen - quiet)
            delays[f"shift {shift}, after {quiet}"] = float(np.median(waited))
    return {
        "alpha": float(alpha),
        "runs": runs,
        "fired on exchangeable scores": fired / runs,
        "median scores to an alarm at alpha 0.01": delays,
    }


def sample_sizes() -> dict[str, Any]:
    """Hits for a lower bound of 1e-5, clean samples for a risk, and what a rule is worth."""
    tau = Fraction(1, 10**5)
    hits = {
        str(n): [
            next(k for k in range(1000) if lower_mass(k, n, Fraction(1, 10**e)) >= tau)
            for e in (2, 4, 6)
        ]
        for n in (10**3, 10**5, 10**6)
    }
    clean = {
        f"1e-{e}": [_least_clean(Fraction(1, 10**e), a) for a in (ALPHA, Fraction(1, 1000))]
        for e in (2, 3, 4, 5)
    }
    alpha, whole = Fraction(1, 1000), frozenset[str]()
    rule = {}
    for n in (100, 1000, 10**4, 10**5):
        marginal = lower_mass(n // 10, n, alpha)
        statements = [
            Statement(whole, frozenset(name), marginal, Fraction(1)) for name in ("A", "B")
        ]
        given = lower_mass(9 * n // 100, n // 10, alpha)
        learned = Statement(frozenset("A"), frozenset("B"), given, Fraction(1))
        rule[str(n)] = {
            "marginals": float(lower_probability(frozenset("AB"), statements)),
            "rule": float(lower_probability(frozenset("AB"), [*statements, learned])),
            "direct": float(lower_mass(9 * n // 100, n, alpha)),
        }
    looks = confidence_sequence(100, 1000, Fraction(1, 100), None)
    once = clopper_pearson(100, 1000, Fraction(1, 100))
    return {
        "hits for 1e-5 at alpha 1e-2, 1e-4, 1e-6": hits,
        "clean samples at 95 %, 99.9 %": clean,
        "lower probability of A and B": rule,
        "100 of 1000 at 99 %": {
            "at every look": [float(looks.low), float(looks.high)],
            "once": [float(once.low), float(once.high)],
        },
    }


def _least_clean(delta: Fraction, alpha: Fraction) -> int:
    n = math.ceil(math.log(float(alpha)) / math.log1p(-float(delta))) - 2
    while upper_risk(0, n, alpha) > delta:
        n += 1
    return n


def speed() -> dict[str, float]:
    """Milliseconds for a two-sided interval, computed afresh."""
    found = {}
    for n in (10**3, 10**4, 10**5, 10**6, 10**7):
        took = []
        for i in range(5):
            start = time.perf_counter()
            clopper_pearson(n // 3 + i, n, Fraction(1, 10**12))
            took.append(1000 * (time.perf_counter() - start))
        found[f"n={n}"] = round(min(took), 2)
    return found


def main() -> None:
    results = {
        "calibration": calibration(),
        "winner's curse": winners_curse(),
        "reweighting": reweighting(),
        "drift test": drift_test(),
        "sample sizes": sample_sizes(),
        "milliseconds an interval": speed(),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
