"""Linear: what one site is beyond a linear combination of others stays within an interval."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from .._events import Event, Pattern
from .._presumption import ClassTable, LinearBase
from ._gaussian_pairs import moments
from ._proposal import Proposal, State, guessed

_TOLERANCE = 0.95
_TERMS = 4


class Linear:
    """``site - w . others`` in [l, u]: correlated sites become one event.

    The weights are either fitted to a few sites, each paid for, or follow from the weights of the
    network and the covariance of the layer below, for nothing.
    """

    kind = "linear"

    def propose(self, state: State, pattern: Pattern) -> list[Proposal]:
        """For the site of the pattern's last event, from earlier sites of its group."""
        places = state.places(pattern)
        if places is None or len(places) < 2:
            return []
        v = places[-1][0]
        variable = state.variables[v]
        earlier = [
            u
            for u in range(1, v)
            if state.variables[u].site is not None and state.variables[u].group == variable.group
        ]
        if variable.site is None or not earlier or isinstance(state.model.bases.get(v), LinearBase):
            return []
        found = []
        chosen = _greedy(state, v, earlier)
        weights = _fitted(state, v, chosen)
        numbers = len(chosen) + 2
        bits = len(chosen) * float(np.log2(len(earlier))) + numbers * state.precision
        found.append(_proposal(state, v, chosen, weights, bits))
        if variable.group in state.below:
            weights = _from_weights(state, v, earlier)
            bits = float(np.log2(len(state.variables)))
            found.append(_proposal(state, v, earlier, weights, bits))
        return found


def _intercept(state: State, v: int, left: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " c"]:
    """The mean of ``left``; by class, shrunk by one input, if the class is a cause of v."""
    classes, size = state.codes[:, 0], state.variables[0].size
    mean = float(left.mean())
    if not isinstance(state.model.bases.get(v), ClassTable):
        return np.full(size, mean)
    total = np.bincount(classes, weights=left, minlength=size) + mean
    return total / (np.bincount(classes, minlength=size) + 1)


def _within(state: State, v: int, x: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Less the means; less those of the classes, if the class is a cause of v already."""
    return np.stack([c - _intercept(state, v, c)[state.codes[:, 0]] for c in x.T], axis=1)


def _values(state: State, columns: Sequence[int]) -> Float64[np.ndarray, "n k"]:
    sites = [state.variables[u].site for u in columns]
    return state.mine.h[:, [site for site in sites if site is not None]]


def _greedy(state: State, v: int, earlier: list[int]) -> list[int]:
    """Forward selection by the correlation with what is left."""
    left = _within(state, v, _values(state, [v]))[:, 0]
    x = _within(state, v, _values(state, earlier))
    norms = np.maximum(np.linalg.norm(x, axis=0), 1e-12)
    chosen: list[int] = []
    target = left
    while len(chosen) < min(_TERMS, len(earlier)):
        strength = np.abs(x.T @ left) / norms
        strength[chosen] = -1.0
        chosen.append(int(strength.argmax()))
        left = target - x[:, chosen] @ np.linalg.lstsq(x[:, chosen], target, rcond=None)[0]
    return [earlier[i] for i in chosen]


def _fitted(state: State, v: int, columns: list[int]) -> Float64[np.ndarray, " k"]:
    x = _within(state, v, _values(state, columns))
    y = _within(state, v, _values(state, [v]))[:, 0]
    return np.linalg.lstsq(x, y, rcond=None)[0]


def _from_weights(state: State, v: int, columns: list[int]) -> Float64[np.ndarray, " k"]:
    """What the covariance of the layer makes of the earlier sites: the conditional mean."""
    group = state.variables[v].group
    below = state.below[group]
    mean, cov = moments(below)
    centred = mean - below.shares @ mean
    cov = cov + (centred.T * below.shares) @ centred
    own = np.array([(state.variables[u].site or 0) - below.start for u in columns])
    target = (state.variables[v].site or 0) - below.start
    ridge = 1e-6 * np.trace(cov) / len(cov) * np.eye(len(own))
    return np.linalg.solve(cov[np.ix_(own, own)] + ridge, cov[own, target])


def _proposal(
    state: State, v: int, columns: list[int], weights: Float64[np.ndarray, " k"], bits: float
) -> Proposal:
    """The central 95 % of the residual on the mine data, and what it would hold by independence."""
    variable = state.variables[v]
    x, y = _values(state, columns), _values(state, [v])[:, 0]
    residual = y - x @ weights
    tails = [(1 - _TOLERANCE) / 2, (1 + _TOLERANCE) / 2]
    low, high = (float(end) for end in np.quantile(residual, tails))
    row = np.zeros(state.mine.h.shape[1])
    row[variable.site or 0] = 1.0
    for u, weight in zip(columns, weights, strict=True):
        row[state.variables[u].site or 0] = -weight
    event = Event(
        f"{variable.name} - linear in [{low:.4g}, {high:.4g}]",
        f"residual of {variable.name}",
        0,
        row[None],
        np.array([low]),
        np.array([high]),
    )
    k = int(np.count_nonzero((residual >= low) & (residual <= high)))
    # The presumption knows earlier sites by the centres of their bins alone.
    spread = np.zeros(len(state.variables))
    spread[columns] = weights
    centred = state.model.centres[np.array(columns)[None], state.codes[:, columns]] @ weights
    left = y - centred
    intercept = _intercept(state, v, left)
    sd = float((left - intercept[state.codes[:, 0]]).std())
    change = LinearBase(
        v,
        spread,
        intercept,
        max(sd, 1e-9),
        np.asarray(variable.edges, dtype=np.float64),
    )
    return Proposal(
        "linear",
        (),
        (event,),
        guessed(k, len(y)),
        _independent_share(x, y, weights, low, high),
        bits,
        state.gain((change,)),
        (change,),
    )


def _independent_share(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, " k"],
    low: float,
    high: float,
) -> float:
    """How often the residual would be in range if every site were drawn on its own."""
    rng = np.random.default_rng(0)
    total = 0
    rounds = 5
    for _ in range(rounds):
        mixed = np.stack([rng.permutation(column) for column in x.T], axis=1)
        residual = y - mixed @ weights
        total += np.count_nonzero((residual >= low) & (residual <= high))
    return total / (rounds * len(y))
