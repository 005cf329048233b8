"""Laws of the tasks that have a name: their labels and their classes, sequence by sequence."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from .tasks import KERNEL_TASKS, make_task
from .truth import all_sequences

_SIZES = ((2, 3), (2, 5), (3, 2), (3, 4), (4, 3), (5, 2))


def accepts(words: Any, word: list[int]) -> bool:
    """Whether a class has a word of tokens, by its step table alone."""
    letter = {token: n for n, tokens in enumerate(words.letters) for token in tokens}
    state = 0
    for token in word:
        state = words.step[state][letter[token]] if token in letter and state >= 0 else -1
    return state >= 0 and words.accepting[state]


def named_tasks(kernel: ModuleType) -> Iterator[str]:
    """Labels are those of another definition; each sequence is in its own class and no other."""
    for name in ("max", *KERNEL_TASKS):
        for k, v in _SIZES:
            task, labels = make_task(kernel, name, k, v)
            sequences = all_sequences(k, v)
            expected = labels(sequences)
            if not np.array_equal(task.labels(sequences), expected):
                yield f"{task.name}: the automaton labels otherwise than the definition"
            members = list(zip(sequences.tolist(), expected.tolist(), strict=True))
            found = {(query, label): words for query, label, words in task.classes()}
            for query, label in np.ndindex(v, v):
                right = [s[:-1] for s, m in members if s[-1] == query and m == label]
                every = [s[:-1] for s, _ in members if s[-1] == query]
                for words in (found.pop((query, label), None), task.class_automaton(query, label)):
                    if (words is None) != (not right) or (words and words.size != len(right)):
                        yield f"{task.name}: class ({query}, {label}) is not {len(right)} words"
                    elif words and [word for word in every if accepts(words, word)] != right:
                        yield f"{task.name}: class ({query}, {label}) has other words"
            if found:
                yield f"{task.name}: classes {sorted(found)} of labels that there are not"


LAWS = (named_tasks,)
