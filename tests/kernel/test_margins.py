"""Margins: integer bounds on every corner of the enclosures, within one unit of the worst."""

from fractions import Fraction
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import pytest

from compactproofs.kernel import IntegerTables, VerifiedTables, _integers
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._margins import Margins

LIMIT = 2**30


def sealed(**fields: np.ndarray) -> VerifiedTables:
    """Tables taken as verified: margins must be right for any integers in range."""
    tables = IntegerTables(**{name: array.astype(np.int32) for name, array in fields.items()},
        shift=np.zeros(fields["weight_low"].shape[1]),
        grid=np.array([0]),
    )  # fmt: skip
    return VerifiedTables(tables, "0" * 64, Ledger(), seal=_integers._SEAL)


def pair(rng: np.random.Generator, low: int, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Two ends in order, from ``low`` to 2^30, of very different sizes, often extreme."""
    sizes = 2.0 ** rng.uniform(0, 30, (2, *shape))
    signs = rng.choice([-1, 1], sizes.shape) if low < 0 else 1
    ends = (sizes * signs).astype(np.int64)
    ends = np.where(rng.random(ends.shape) < 0.2, rng.choice([low, 0, LIMIT], ends.shape), ends)
    return [ends.min(axis=0), ends.max(axis=0)]


def random_tables(
    rng: np.random.Generator, k: int, v: int, x: int, spread: int, **fixed: Any
) -> VerifiedTables:
    weight, value = pair(rng, 0, (k, v, v)), pair(rng, -LIMIT, (k, v, x))
    direct = pair(rng, -LIMIT, (v, x))
    exponents = rng.integers(-spread, spread, (k, v, v), endpoint=True)
    fields = dict(
        zip(IntegerTables._fields[:7], (*weight, exponents, *value, *direct), strict=True)
    )
    return sealed(**fields | fixed)


def entries(tables: VerifiedTables) -> dict[str, Any]:
    """The tables as nested lists of Python integers."""
    return {name: array.tolist() for name, array in tables.claimed._asdict().items()}


def python_ints(bounds: np.ndarray) -> np.ndarray:
    """Integers that neither wrap nor round when compared with fractions."""
    return np.asarray(bounds).astype(object)


def corners(t: dict[str, Any], i: int, q: int, token: int, x: int, label: int) -> list[Fraction]:
    """``f_i(t)`` at every corner of the enclosures, exactly (grid 0)."""
    unit = Fraction(2) ** t["weight_exponent"][i][q][token]
    return [
        weight * unit * (h_x - h_m + o_x - o_m)
        for weight, h_x, h_m, o_x, o_m in product(
            (t["weight_low"][i][q][token], t["weight_high"][i][q][token]),
            (t["direct_low"][q][x], t["direct_high"][q][x]),
            (t["direct_low"][q][label], t["direct_high"][q][label]),
            (t["value_low"][i][token][x], t["value_high"][i][token][x]),
            (t["value_low"][i][token][label], t["value_high"][i][token][label]),
        )
    ]


CASES = list(product([(1, 2, 2), (2, 3, 3), (4, 3, 2), (7, 2, 4)], [0, 1, 40, 600, 3000]))


@pytest.mark.parametrize(("sizes", "spread"), CASES)
def test_upper_bounds_every_corner_within_one_unit(
    sizes: tuple[int, int, int], spread: int
) -> None:
    k, v, x = sizes
    rng = np.random.default_rng(spread + k)
    tables = random_tables(rng, k, v, x, spread)
    exact, tokens = entries(tables), np.arange(v)
    for label in range(x):
        margins = Margins(tables, label, Ledger())
        assert margins.outputs == tuple(y for y in range(x) if y != label)
        for query in range(v):
            scale = margins.scale(query, tokens)
            slots = [(slice(0, k - 1), tokens, range(k - 1))]
            slots.append((slice(k - 1, k), np.array([query]), range(k - 1, k)))
            for positions, some, numbers in slots:
                bounds = margins.upper(query, positions, some, scale)
                assert bounds.shape == (len(numbers), len(some), x - 1)
                for (i, t, y), bound in np.ndenumerate(python_ints(bounds)):
                    token, output = int(some[t]), margins.outputs[y]
                    true = corners(exact, numbers[i], query, token, output, label)
                    worst = max(true) / Fraction(2) ** scale
                    assert worst <= bound < worst + 1


@pytest.mark.parametrize(("sizes", "spread"), CASES)
def test_sums_of_sequences_are_bounded_on_both_sides(
    sizes: tuple[int, int, int], spread: int
) -> None:
    k, v, x = sizes
    rng = np.random.default_rng(spread + 100 * k)
    tables = random_tables(rng, k, v, x, spread)
    exact = entries(tables)
    words = np.array(list(product(range(v), repeat=k)))[:40]
    for label in range(x):
        margins = Margins(tables, label, Ledger())
        lower, upper = map(python_ints, margins.of_sequences(words))
        for n, word in enumerate(words.tolist()):
            query = word[-1]
            top = max(exact["weight_exponent"][i][query][t] for i, t in enumerate(word))
            unit = Fraction(2) ** (top + k.bit_length() + 2)
            for y, output in enumerate(margins.outputs):
                ends = [corners(exact, i, query, t, output, label) for i, t in enumerate(word)]
                least, most = sum(map(min, ends)) / unit, sum(map(max, ends)) / unit
                assert lower[n, y] <= least
                assert most <= upper[n, y]
                assert least - lower[n, y] < k
                assert upper[n, y] - most < k


@pytest.mark.parametrize("k", [1, 2, 3, 7, 8, 64, 1000])
@pytest.mark.parametrize("sign", [-1, 1])
def test_nothing_overflows_at_the_largest_mantissas(k: int, sign: int) -> None:
    full = np.full((k, 2, 2), LIMIT)
    ends = np.stack([np.full((k, 2), sign * LIMIT), np.full((k, 2), -sign * LIMIT)], axis=2)
    tables = sealed(
        weight_low=full,
        weight_high=full,
        weight_exponent=np.zeros((k, 2, 2)),
        value_low=ends,
        value_high=ends,
        direct_low=ends[0],
        direct_high=ends[0],
    )
    margins = Margins(tables, 1, Ledger())
    headroom = margins.scale(0, np.arange(2))
    bounds = margins.upper(0, slice(0, k), np.arange(2), headroom)
    expected = sign * Fraction(2**62, 2**headroom)
    assert (np.asarray(bounds) == int(expected)).all()
    assert int(bounds.max(axis=1).sum()) == k * expected
    assert abs(k * expected) < 2**61
    lower, upper = margins.of_sequences(np.zeros((1, k), dtype=np.int64))
    assert int(lower[0, 0]) == int(upper[0, 0]) == k * expected


def extreme_product(sign: int, apart: int) -> VerifiedTables:
    """Position 0 has the largest product there is, position 1 a weight ``apart`` bits heavier."""
    x = sign * LIMIT
    exponents = np.zeros((2, 1, 1))
    exponents[1] = apart
    value = np.array([[[x, -x]], [[x, -x]]])
    return sealed(
        weight_low=np.full((2, 1, 1), LIMIT),
        weight_high=np.full((2, 1, 1), LIMIT),
        weight_exponent=exponents,
        value_low=value,
        value_high=value,
        direct_low=value[0],
        direct_high=value[0],
    )


def test_the_largest_negative_product_far_below_the_unit_rounds_up_to_zero() -> None:
    margins = Margins(extreme_product(-1, 100), 1, Ledger())
    scale = margins.scale(0, np.array([0]))
    assert int(margins.upper(0, slice(0, 1), np.array([0]), scale)[0, 0, 0]) == 0


def test_other_products_far_below_the_unit_round_outward() -> None:
    margins = Margins(extreme_product(1, 100), 1, Ledger())
    scale = margins.scale(0, np.array([0]))
    assert int(margins.upper(0, slice(0, 1), np.array([0]), scale)[0, 0, 0]) == 1
    for apart in (0, 10, 57, 58, 59, 60, 61, 100):
        for sign in (-1, 1):
            margins = Margins(extreme_product(sign, apart), 1, Ledger())
            scale = margins.scale(0, np.array([0]))
            bound = int(margins.upper(0, slice(0, 1), np.array([0]), scale)[0, 0, 0])
            assert bound == ceil(Fraction(sign * 2**62, 2**scale))


def test_the_scale_is_above_every_weight_in_use_and_no_other() -> None:
    tables = random_tables(np.random.default_rng(0), 3, 4, 2, 300)
    margins = Margins(tables, 0, Ledger())
    exponent = tables.claimed.weight_exponent
    for query in range(4):
        for tokens in (np.array([], dtype=np.int64), np.array([2]), np.array([0, 3])):
            used = [*exponent[:2, query][:, tokens].ravel(), exponent[2, query, query]]
            assert margins.scale(query, tokens) == max(used) + 2 + 2


def test_one_output_leaves_nothing_to_compare() -> None:
    tables = random_tables(np.random.default_rng(0), 2, 2, 1, 3)
    margins = Margins(tables, 0, Ledger())
    assert margins.outputs == ()
    assert margins.upper(0, slice(0, 1), np.arange(2), 10).shape == (1, 2, 0)
    lower, upper = margins.of_sequences(np.zeros((3, 2), dtype=np.int64))
    assert lower.shape == upper.shape == (3, 0)
