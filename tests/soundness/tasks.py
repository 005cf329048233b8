"""Tasks beyond max-of-k: the theorems take any label automaton.

Each comes with its label written down a second time, as a function of whole sequences, which the
truth uses and the automaton does not.
"""

from collections.abc import Callable, Hashable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .truth import Labels, largest


class LabelledTask(NamedTuple):
    """A task of a copy of the kernel, and its labels by another definition."""

    task: Any
    labels: Labels


def automaton_task(
    kernel: ModuleType,
    name: str,
    k: int,
    v: int,
    start: Hashable,
    step: Callable[[Any, int], Hashable],
    label: Callable[[Any], int],
) -> Any:
    """A ``Task`` whose automaton is explored from ``start`` by ``step``."""
    states: dict[Hashable, int] = {start: 0}
    rows: list[list[int]] = []
    queue = [start]
    for state in queue:  # grows while it is read
        row: list[int] = []
        for token in range(v):
            target = step(state, token)
            if target not in states:
                states[target] = len(states)
                queue.append(target)
            row.append(states[target])
        rows.append(row)
    table = kernel.LabelAutomaton(np.array(rows), np.array([label(s) for s in states]))

    class TableTask(kernel.Task):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.k = k
            self.v = v

        @property
        def name(self) -> str:
            return f"{name}:k={k},v={v}"

        @property
        def automaton(self) -> Any:
            return table

    return TableTask()


def task_names(v: int) -> list[str]:
    """Tasks whose labels are below ``v``."""
    names = ["max", "min", "runner-up", "copy", "query", "parity", "sorted", "random"]
    return names if v > 1 else names[:5]


KERNEL_TASKS = ("second largest", "sum mod v", "fetch and map")
"""Tasks that the kernel has a name for, other than max; at least two tokens."""


def make_task(kernel: ModuleType, name: str, k: int, v: int, seed: int = 0) -> LabelledTask:
    """One of ``task_names`` or ``KERNEL_TASKS``."""

    def build(start: Hashable, step: Any, label: Any, labels: Labels) -> LabelledTask:
        return LabelledTask(automaton_task(kernel, name, k, v, start, step, label), labels)

    match name:
        case "max":
            return LabelledTask(kernel.MaxOfK(k, v), largest)
        case "min":
            return build(v - 1, min, int, lambda t: t.min(axis=1))
        case "runner-up":  # the largest, if there is only one token
            return build(
                (),
                lambda s, t: tuple(sorted((*s, t))[-2:]),
                lambda s: s[0] if s else 0,
                lambda t: np.sort(t, axis=1)[:, -min(2, k)],
            )
        case "parity":
            return build(0, lambda s, t: (s + t) % 2, int, lambda t: t.sum(axis=1) % 2)
        case "copy":  # the token at position 1 (0 if k = 1)
            at = min(1, k - 1)
            return build(
                (0, 0),
                lambda s, t: (min(s[0] + 1, k), t if s[0] == at else s[1]),
                lambda s: s[1],
                lambda t: t[:, at],
            )
        case "query":
            return build(0, lambda s, t: t, int, lambda t: t[:, -1])
        case "sorted":  # 1 while the tokens never fall, as a state that remembers the last
            return build(
                (1, 0),
                lambda s, t: (s[0] * (t >= s[1]), t),
                lambda s: int(s[0]),
                lambda t: np.array([int(w == sorted(w)) for w in t.tolist()]),
            )
        case "random":
            rng = np.random.default_rng(seed)
            step, label = rng.integers(0, 5, (5, v)), rng.integers(0, v, 5)

            def labels(tokens: np.ndarray) -> np.ndarray:
                found = []
                for sequence in tokens.tolist():
                    state = 0
                    for token in sequence:
                        state = int(step[state, token])
                    found.append(int(label[state]))
                return np.array(found)

            return build(0, lambda s, t: int(step[s, t]), lambda s: int(label[s]), labels)
        case "second largest":
            return LabelledTask(kernel.SecondLargest(k, v), lambda t: np.sort(t, axis=1)[:, -2])
        case "sum mod v":
            return LabelledTask(kernel.SumModV(k, v), lambda t: t.sum(axis=1) % v)
        case "fetch and map":
            return LabelledTask(kernel.FetchAndMap(k, v), lambda t: fetched(t, v))
    raise ValueError(f"no task {name!r}")


def fetched(tokens: np.ndarray, v: int) -> np.ndarray:
    """The token that the last one points at, times a factor found by hand, plus 1."""
    factor = {1: 2, 2: 3, 3: 2, 4: 3, 5: 4, 6: 5}[v]
    return np.array([(word[q % len(word)] * factor + 1) % v for *word, q in tokens.tolist()])
