"""Of the sub-cubic family."""

from .form import edits_of

_SUBCUBIC = [
    *edits_of(
        "theorems/subcubic.py",
        (
            "one token too many below the gap",
            "- int(gap[query, label, n]) + 1",
            "- int(gap[query, label, n]) + 2",
        ),
        ("query counted as free", "free = n - (query != label)", "free = n"),
        (
            "W of the nearest token alone",
            "prefix = np.maximum.accumulate(parts.wrong, axis=0)",
            "prefix = parts.wrong",
        ),
        (
            "W from the largest gap",
            "np.where(claimed & (n > 0), far, -1).max(axis=0)",
            "np.where(claimed & (n > 0), far, v).min(axis=0) % v",
        ),
        (
            "smallest and largest R swapped",
            "np.where(above, R_high[:, None], R_low[:, None])",
            "np.where(above, R_low[:, None], R_high[:, None])",
        ),
        (
            "largest R on both sides",
            "np.where(above, R_high[:, None], R_low[:, None])",
            "np.where(above | True, R_high[:, None], R_low[:, None])",
        ),
        ("the other end where either may be worst", "(at_low < 0) & (at_high < 0)", "(at_low < 0)"),
        (
            "direct path dropped",
            "base[None] + exact(parts.dH)[:, None, None] + change",
            "base[None] + change",
        ),
        (
            "attention left out",
            "base[None] + exact(parts.dH)[:, None, None] + change",
            "base[None] + exact(parts.dH)[:, None, None]",
        ),
        (
            "direct path of the first position",
            "exact(model.W_pos[-1:]) + exact(model.b_O",
            "exact(model.W_pos[:1]) + exact(model.b_O",
        ),
        (
            "b_O dropped",
            "exact(model.W_pos[-1:]) + exact(model.b_O[None, :])",
            "exact(model.W_pos[-1:])",
        ),
        ("b_V dropped", " + exact(model.b_V[None, :])) @ circuit", ") @ circuit"),
        (
            "position path of the best position",
            "G.T[:v].T[:, :, None]).max(axis=0)",
            "G.T[:v].T[:, :, None]).min(axis=0)",
        ),
        (
            "position path dropped",
            "shared = mu - mu.T[:v] + path",
            "shared = mu - mu.T[:v] + path - path",
        ),
        ("shared row dropped", "shared = mu - mu.T[:v] + path", "shared = path"),
        (
            "constant sequences called right",
            ") < 0).all(axis=1)\n    right[",
            ") < 0).any(axis=1)\n    right[",
        ),
        (
            "unclaimed gaps of other queries",
            "& np.where(q == m, (n == 0) | (far >= 0), (n > 0) & (q <= far))",
            "& np.where(q == m, (n == 0) | (far >= 0), n > 0)",
        ),
        (
            "wrong logits from the lower end",
            "np.nextafter(best - lower, np.inf)",
            "np.nextafter(lower - best, np.inf)",
        ),
        ("b_Q dropped", "model.b_Q) * scale", "0 * model.b_Q) * scale"),
        (
            "query of the first position",
            "(tokens + positions[-1:]).T, ones",
            "(tokens + positions[:1]).T, ones",
        ),
    ),
    *edits_of(
        "theorems/_position_mass.py",
        ("error inward", "most[q, far]) - width)", "most[q, far]) + width)"),
        (
            "rivals' best for their worst",
            "lower[:, :, None] - most[q, far]",
            "lower[:, :, None] - least[q, far]",
        ),
        (
            "largest mass of the maximum",
            "M_low = _down(mass.smallest[q, copies]",
            "M_low = _down(mass.largest[q, copies]",
        ),
        (
            "smallest mass of the rivals",
            "R_high = _up(mass.largest[q, others]",
            "R_high = _up(mass.smallest[q, others]",
        ),
        (
            "own position with the maximum",
            "mass.largest[q, others] + np.where(is_maximum, zero, own_high)",
            "mass.largest[q, others] + zero",
        ),
        (
            "own position with the maximum, M",
            "mass.smallest[q, copies] + np.where(is_maximum, own_low, zero)",
            "mass.smallest[q, copies] + own_low",
        ),
        (
            "largest positions summed as smallest",
            "_sums(np.sort(low[:, :-1], axis=1), -1)",
            "_sums(np.sort(low[:, :-1], axis=1)[:, ::-1], -1)",
        ),
    ),
    *edits_of(
        "theorems/_row_spread.py",
        (
            "signs kept",
            "size = np.maximum(np.abs(matrix.lower()), np.abs(matrix.upper()))",
            "size = matrix.upper()",
        ),
        (
            "spread from the largest alone",
            "matrix.upper().max(axis=1) - matrix.lower().min(axis=1)",
            "matrix.upper().max(axis=1) - matrix.lower().max(axis=1)",
        ),
        (
            "mean row forgotten",
            "return _sum(spread(row @ right), weighted(left - row, spreads))",
            "return weighted(left - row, spreads)",
        ),
        (
            "mean row of a chain forgotten",
            "return _sum(spread(product), weighted(first - row, spreads))",
            "return weighted(first - row, spreads)",
        ),
        (
            "half the norm",
            "np.nextafter(np.ldexp(root, whole // 2), np.inf)",
            "np.nextafter(np.ldexp(root, whole // 2 - 1), np.inf)",
        ),
        (
            "powers of two forgotten",
            "exponent = 2 * (exponent + shifted)",
            "exponent = 2 * exponent",
        ),
    ),
    *edits_of(
        "theorems/_direct_path.py",
        (
            "b_U dropped",
            "return DirectBound(_zero(bias), spread(rows @ unembed + bias))",
            "return DirectBound(_zero(bias), spread(rows @ unembed))",
        ),
        (
            "mean row not subtracted from mu",
            "row @ unembed + bias, weighted(rows - row, spread(unembed))",
            "bias, weighted(rows - row, spread(unembed))",
        ),
        (
            "projections' deviation dropped",
            "both = weighted(off, spread(along)) + weighted(rest, spread(unembed))",
            "both = weighted(rest, spread(unembed))",
        ),
        (
            "rest of a projection dropped",
            "both = weighted(off, spread(along)) + weighted(rest, spread(unembed))",
            "both = weighted(off, spread(along))",
        ),
        (
            "b_U dropped from the rest",
            "return DirectBound(bias, weighted(rows, spread(unembed)))",
            "return DirectBound(_zero(bias), weighted(rows, spread(unembed)))",
        ),
    ),
    *edits_of(
        "theorems/_attention_error.py",
        (
            "residual forgotten",
            "AttentionBound(approximation, spread(left @ right))",
            "AttentionBound(approximation, 0 * spread(left @ right))",
        ),
        (
            "cross term dropped",
            "[u, rest_left @ eta.T], [xi @ right, w.T]",
            "[u, rest_left @ eta.T - rest_left @ eta.T], [xi @ right, w.T]",
        ),
        (
            "largest of the three splits' rivals",
            "np.minimum(np.minimum(*bounds[:2]), bounds[2])",
            "np.minimum(np.minimum(*bounds[:2]), bounds[2]) * 0.2",
        ),
        (
            "residual of the wrong sign",
            "return column, row, matrix - column @ row",
            "return column, row, matrix + column @ row",
        ),
        (
            "term of W_Q dropped",
            "rows.append((y @ factors.W_K.T) @ factors.key.T)",
            "rows.append((y - y) @ factors.W_K.T @ factors.key.T)",
        ),
        (
            "term of W_K dropped",
            "rows.append(f.T @ factors.key.T)",
            "rows.append((f - f).T @ factors.key.T)",
        ),
        ("term of the keys dropped", "rows.append(column.T)", "rows.append((column - column).T)"),
    ),
]

SUBCUBIC = (*_SUBCUBIC,)
