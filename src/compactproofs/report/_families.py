"""The families of strategies: their order, from the shortest proofs on, and their colours.

The paper's families have colours near those of its figures; ours are the blues and greens.
"""

FAMILIES = {
    "attention-quadratic, direct-quadratic": "#7f3c8d",
    "attention-quadratic": "#b07aa1",
    "attention-vd², direct-quadratic": "#e07b39",
    "direct-quadratic": "#c9a227",
    "attention-vd²": "#d1495b",
    "subcubic": "#8c2d19",
    "cubic": "#3d3d3d",
    "collapsed sub-cubic": "#17a398",
    "collapsed cubic": "#0b6e4f",
    "windowed": "#2f7ed8",
    "additive": "#12355b",
    "additive, refined": "#6a8fbf",
    "brute force": "#000000",
}


def colour(family: str) -> str:
    """Of a family; grey for one that is not known here."""
    return FAMILIES.get(family, "#888888")
