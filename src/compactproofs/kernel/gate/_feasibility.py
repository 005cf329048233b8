"""Whether some probability vector satisfies linear inequalities: decided exactly."""

from flint import fmpq, fmpz, fmpz_mat


def feasible(rows: list[list[int]], columns: int) -> bool:
    """Whether there is an ``x >= 0`` of ``columns`` numbers, of sum 1, with ``row . x <= 0`` each.

    Exact. Rows are added as they are found violated: if a few rows exclude each other, so do all;
    if an x for a few satisfies the rest, it is one for all. Cost: a simplex method on as many rows
    as are needed, every step of it an exact inverse.
    """
    chosen: list[int] = []
    while True:
        x = _point([rows[i] for i in chosen], columns)
        if x is None:
            return False
        worst, excess = -1, fmpq(0)
        for i, row in enumerate(rows):
            value = sum((share * row[j] for j, share in x.items()), fmpq(0))
            if value > excess:
                worst, excess = i, value
        if worst < 0:
            return True
        chosen.append(worst)


def _point(rows: list[list[int]], columns: int) -> dict[int, fmpq] | None:
    """Such an x as its positive entries, or None if there is none.

    Phase one of the simplex method on ``sum x + a = 1``, ``row . x + t = 0``, minimising the
    artificial variable a. Columns: those of x, then one slack a row, then a. Of the variables
    that may leave, the one whose row of the basis' inverse, over its step, is first in
    lexicographic order does: no basis comes twice, for a's own row falls in that order. A basis
    without a, or with a = 0, gives x; one where no column lowers a proves that a > 0 always.
    """
    size, artificial = len(rows) + 1, columns + len(rows)
    table = fmpz_mat(
        [
            [1] * columns + [0] * len(rows) + [1],
            *(row + [int(i == j) for j in range(len(rows))] + [0] for i, row in enumerate(rows)),
        ]
    )
    entry = table.table()
    basis = [artificial, *range(columns, artificial)]
    while True:
        inverse = fmpz_mat([[entry[i][j] for j in basis] for i in range(size)]).inv().table()
        at = [row[0] for row in inverse]  # the basic variables: the right side is (1, 0, ..., 0)
        place = basis.index(artificial) if artificial in basis else -1
        if place < 0 or at[place] == 0:
            return {j: share for j, share in zip(basis, at, strict=True) if share and j < columns}
        entering = _steepest(inverse[place], table)
        if entering < 0:
            return None
        step = [
            sum((r * entry[i][entering] for i, r in enumerate(row) if r), fmpq(0))
            for row in inverse
        ]
        basis[_leaving(inverse, step)] = entering


def _leaving(inverse: list[list[fmpq]], step: list[fmpq]) -> int:
    """The place whose row over its positive step is the least; no two are alike."""
    places = [i for i, along in enumerate(step) if along > 0]
    for column in range(len(step)):
        if len(places) == 1:
            break
        ratios = [inverse[i][column] / step[i] for i in places]
        least = min(ratios)
        places = [i for i, ratio in zip(places, ratios, strict=True) if ratio == least]
    return places[0]


def _steepest(prices: list[fmpq], table: fmpz_mat) -> int:
    """The column by which the artificial variable falls fastest; -1 if there is none."""
    common = fmpz(1)
    for price in prices:
        common = common.lcm(price.q)
    scaled = fmpz_mat([[price.p * (common // price.q) for price in prices]])
    falls = (scaled * table).entries()[:-1]
    best = max(falls)
    return falls.index(best) if best > 0 else -1
