"""exp_bounds against Arb, and the machines on which enclosures hold or are refused."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import process_modes
import pytest
from flint import arb
from numpy.typing import ArrayLike

from compactproofs.kernel import EnclosureError, _enclosure
from compactproofs.kernel._enclosure import EXP_LIMIT, Ball, check_arithmetic, exp_bounds
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._tables_arb import arb_precision

LN2 = 0.6931471805599453


def ball(mid: ArrayLike, rad: ArrayLike = 0.0) -> Ball:
    middle = np.asarray(mid, dtype=np.float64)
    radius = np.zeros_like(middle) + np.asarray(rad, dtype=np.float64)
    return Ball(middle, radius, Ledger())


def as_arb(mantissa: float, exponent: int) -> arb:
    return arb((int(mantissa * 2.0**60), exponent - 60))


def failures(x: Ball) -> list[float]:
    """Midpoints whose exp, at either end of the ball, is outside its bounds."""
    bounds = exp_bounds(x)
    failed = []
    with arb_precision(200):
        rows = zip(*(a.ravel().tolist() for a in (x.mid, x.rad, *bounds)), strict=True)
        for mid, rad, lower, lower_exponent, upper, upper_exponent in rows:
            low, high = (arb(mid) - arb(rad)).exp(), (arb(mid) + arb(rad)).exp()
            if not (as_arb(lower, lower_exponent) <= low and high <= as_arb(upper, upper_exponent)):
                failed.append(mid)
    return failed


def ulps(x: float, steps: range) -> list[float]:
    spacing = float(np.spacing(x))
    return [x + step * spacing for step in steps]


def test_random_points() -> None:
    rng = np.random.default_rng(0)
    points = [
        rng.uniform(-1, 1, 5000),
        rng.uniform(-60, 60, 5000),
        rng.uniform(-1e6, 1e6, 5000),
        rng.choice([-1, 1], 5000) * 10.0 ** rng.uniform(-320, 6, 5000),
    ]
    assert failures(ball(np.concatenate(points))) == []


def test_points_where_the_argument_reduction_turns() -> None:
    points = [0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, -1e-300, 1e-17, -(2.0**-53), 2.0**-52]
    multiples = [*range(1, 40), 1000, 65535, 65536, 2**20 - 1, 2**20, 2_885_389, 2_885_390]
    for multiple in multiples:  # of ln(2) / 2, up to 1e6 nats
        for sign in (-1, 1):
            points += ulps(sign * multiple * LN2 / 2, range(-6, 7))
    borders = [*ulps(-1e6, range(-4, 5)), *ulps(1e6, range(0, -5, -1))]
    assert failures(ball([p for p in points + borders if p <= EXP_LIMIT])) == []


def test_wide_balls() -> None:
    rng = np.random.default_rng(1)
    mid, rad = rng.uniform(-2e6, 9e5, 3000), 10.0 ** rng.uniform(-20, 4.9, 3000)
    assert failures(ball(mid, rad)) == []
    assert failures(ball([0.0, -1e6, -1e300, -1e308], [1e6 - 1, 2e6 - 1, 1e300, 5e307])) == []


def test_arguments_below_the_limit_have_lower_bound_zero_and_a_tiny_upper_bound() -> None:
    bounds = exp_bounds(ball([np.nextafter(-1e6, -2e6), -1.7e308, -1e6]))
    assert bounds.lower.tolist()[:2] == [0.0, 0.0]
    assert bounds.lower[2] > 0
    assert (bounds.upper_exponent == -1442695).all()


def test_arguments_above_the_limit_are_refused_with_advice() -> None:
    with pytest.raises(EnclosureError, match="exp of up to 1e\\+06 nats: shift the scores"):
        exp_bounds(ball([0.0, np.nextafter(1e6, 2e6)]))


def test_mantissas_are_as_stated() -> None:
    bounds = exp_bounds(ball(np.linspace(-1e6, 1e6, 20001)))
    for mantissa in (bounds.lower, bounds.upper):
        assert (0.5 <= mantissa).all()
        assert (mantissa < 2).all()


def test_bounds_of_points_are_tight() -> None:
    bounds = exp_bounds(ball(np.linspace(-1e6, 1e6, 20001)))
    assert (bounds.lower_exponent == bounds.upper_exponent).all()
    assert (bounds.upper - bounds.lower <= bounds.lower * 2.0**-40).all()


def test_constants_of_the_argument_reduction() -> None:
    high, low = Fraction(_enclosure._LN2_HIGH), Fraction(_enclosure._LN2_LOW)
    assert (high * 2**32).denominator == 1, "32 bits: n * high is exact for n below 2^21"
    with arb_precision(300):
        ln2 = arb(2).log()
        assert 0 < ln2 - arb(_enclosure._LN2_HIGH)
        rest = abs(ln2 - arb(_enclosure._LN2_HIGH) - arb(_enclosure._LN2_LOW))
        assert rest < arb((1, -86))
    assert low > 0


@pytest.mark.parametrize("constant", ["_LN2_LOW", "_LN2_HIGH"])
def test_a_wrong_constant_would_be_caught(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = getattr(_enclosure, constant)
    monkeypatch.setattr(_enclosure, constant, value * (1 + 2.0**-30))
    assert failures(ball(np.linspace(-1e6, 1e6, 1001)))


def test_a_shorter_polynomial_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_enclosure, "_TAYLOR", [*_enclosure._TAYLOR[:11], 0.0, 0.0, 0.0])
    assert failures(ball(np.linspace(-1, 1, 1001)))


# Machines. The modes are real: they are set in the SSE control word of a process of its own.

in_a_process = pytest.mark.skipif(
    not process_modes.AVAILABLE, reason="sets the SSE control word through glibc on x86-64"
)


def run(code: str) -> str:
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=here,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@in_a_process
def test_flush_to_zero_is_refused() -> None:
    output = run(
        "from process_modes import *\n"
        "from compactproofs.kernel._enclosure import check_arithmetic\n"
        "from compactproofs.kernel import EnclosureError\n"
        "check_arithmetic()\n"
        "for bits in (FLUSH_RESULTS, FLUSH_OPERANDS, FLUSH_RESULTS | FLUSH_OPERANDS):\n"
        "    set_flush(bits)\n"
        "    try:\n"
        "        check_arithmetic()\n"
        "    except EnclosureError as error:\n"
        "        print(error)\n"
        "    set_flush(0)\n"
        "check_arithmetic()\n"
    )
    assert output.count("flushes subnormal numbers to zero") == 3


class Reduced(np.ndarray):
    """Float64 numbers that are multiplied as matrices in float32."""

    def __matmul__(self, other: Any) -> Any:
        a, b = np.asarray(self, dtype=np.float32), np.asarray(other, dtype=np.float32)
        return (a @ b).astype(np.float64)


def test_reduced_precision_products_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_arithmetic()
    full = np.full
    monkeypatch.setattr(np, "full", lambda *args: full(*args).view(Reduced))
    with pytest.raises(EnclosureError, match="matrix products here are not float64"):
        check_arithmetic()


DIRECTED = """
import sys
import numpy as np
from exact import misses, rationals
from process_modes import *
from compactproofs.kernel import EnclosureError
from compactproofs.kernel._enclosure import Ball, exp_bounds
from compactproofs.kernel._ledger import Ledger
from test_exp import as_arb
from compactproofs.kernel._tables_arb import arb_precision
from flint import arb

rng = np.random.default_rng(0)
a = rng.standard_normal((8, 8)) * 10.0 ** rng.uniform(-160, 0, (8, 8))
b = rng.standard_normal((8, 8)) * 10.0 ** rng.uniform(-160, 0, (8, 8))
b[4:] = -b[:4] * (1 + 1e-15)
a[:, 4:] = a[:, :4]
ledger = Ledger()
left, right = Ball(a, abs(a) * 1e-17, ledger), Ball(b, abs(b) * 1e-17, ledger)
corner_a, corner_b = (rationals(x.mid) + rationals(x.rad) for x in (left, right))
points = np.linspace(-300, 50, 4001)
refused = 0

def compare(mode):
    global refused
    total = left + right, left - right, left * right, left @ right
    ends = total[0].lower(), total[0].upper()
    extrema = (total[0].max(0), total[0].min(0))
    try:
        bounds = exp_bounds(Ball.exact(points, ledger))
    except EnclosureError:
        bounds, refused = None, refused + 1
    set_direction("nearest")
    set_flush(0)
    truth = corner_a + corner_b, corner_a - corner_b, corner_a * corner_b, corner_a.dot(corner_b)
    missed = [misses(ball, exact) for ball, exact in zip(total, truth)]
    low, high = rationals(total[0].mid), rationals(total[0].mid)
    low, high = low - rationals(total[0].rad), high + rationals(total[0].rad)
    missed.append(int((rationals(ends[0]) > low).sum() + (rationals(ends[1]) < high).sum()))
    missed += [misses(extrema[0], truth[0].max(0)), misses(extrema[1], truth[0].min(0))]
    if bounds is not None:
        with arb_precision(200):
            for x, l, le, u, ue in zip(points.tolist(), *(part.tolist() for part in bounds)):
                missed.append(int(not as_arb(l, le) <= arb(x).exp() <= as_arb(u, ue)))
    print(mode, "missed", sum(missed))

for direction in DIRECTIONS:
    set_direction(direction)
    compare(direction)
set_flush(FLUSH_RESULTS | FLUSH_OPERANDS)
compare("flush")
print("refused", refused)
"""


@in_a_process
def test_enclosures_hold_in_every_rounding_mode_and_under_flush_to_zero() -> None:
    lines = run(DIRECTED).splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines[:5]] == [
        f"{mode} missed" for mode in (*process_modes.DIRECTIONS, "flush")
    ]
    assert all(line.endswith(" 0") for line in lines[:5]), lines
    # Rounding to an integer follows the mode too; a reduction too wide is refused, not used.
    assert lines[5] in ("refused 0", "refused 1", "refused 2", "refused 3"), lines
