"""Where to spend work: the effort of each class that makes ``additive`` an anytime proof.

All classes are first tried with the usual bins; those of which something is left open are tried
again by enumeration, with more bins, and with the outputs put in an order instead of their union,
largest remainder first. Each trial runs the kernel's own step of that class, so its gain and its
cost are known exactly; within a budget of FLOPs the trials of largest gain per FLOP are taken.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from ..kernel import (
    Model,
    OptionError,
    Task,
    Tick,
    VerifiedTables,
    integer_tables,
    no_tick,
    require_fit,
    verify_tables,
)
from ..kernel._first_rival import Rival
from ..kernel._ledger import Ledger
from ..kernel._margins import Margins
from ..kernel._slack import worst_word
from ..kernel._tasks import ClassAutomaton
from ..kernel.theorems.additive import ENUMERATE, OPEN_PREFIXES, class_terms, wrong_of_class
from .first_rival import find_order

_BINS = (128, 1024, 8192)
_LIMITS = {"": 1, "flops": 1, "s": 1, "min": 60}


@dataclass(frozen=True)
class Budget:
    """What a proof may cost; None is no limit."""

    flops: int | None = None
    """FLOPs of the proof, enclosing the tables included."""
    seconds: float | int | None = None
    """Seconds of search and proof together, about."""


def parse_budget(text: str) -> Budget:
    """``2e8`` or ``2e8flops`` are FLOPs, ``5s`` and ``2min`` seconds; raises OptionError."""
    match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[0-9]{1,2})?)(flops|s|min)?", text)
    if match is None:
        raise OptionError(f"cannot read the budget {text!r}: write FLOPs as 2e8, or 5s, or 2min")
    number = float(match[1])
    if match[2] in ("s", "min"):
        return Budget(seconds=number * _LIMITS[match[2]])
    return Budget(flops=int(number))


class _Trial(NamedTuple):
    """What an effort gives in a class."""

    effort: int
    order: tuple[Rival, ...]
    correct: int
    flops: int
    seconds: float


@dataclass
class _Class:
    query: int
    label: int
    words: ClassAutomaton
    trials: list[_Trial]

    @property
    def best(self) -> _Trial | None:
        """The cheapest of the trials with the largest count."""
        return max(self.trials, key=lambda t: (t.correct, -t.flops), default=None)

    @property
    def left(self) -> int:
        """Sequences that the best trial leaves open."""
        return self.words.size - (self.best.correct if self.best else 0)


def refine(
    model: Model, task: Task, budget: Budget, tick: Tick = no_tick, semantics: str = "real"
) -> dict[str, Int32[np.ndarray, "..."]]:
    """The witness of ``additive``: efforts all 0 if the budget is too small for any class.

    semantics: of the tables that the efforts are tried on.

    Cost: that of all trials; about twice that of the proof.
    """
    require_fit(task, model)
    began = time.perf_counter()
    tables = verify_tables(model, integer_tables(model, semantics), semantics)
    enclosing = time.perf_counter() - began
    clock = _Clock(began, budget.seconds, 2 * enclosing)
    classes: list[_Class] = []
    margins_cost: dict[int, int] = {}
    by_label = [(label, list(group)) for label, group in groupby(task.classes(), itemgetter(1))]
    by_label.sort(key=lambda item: -sum(words.size for _, _, words in item[1]))
    kept: dict[int, _Counting] = {}
    for done, (label, group) in enumerate(by_label):
        tick(done, 2 * len(by_label))
        if clock.is_spent():
            break
        margins = kept[label] = _Counting.of(tables, label)
        margins_cost[label] = margins.ledger.flops
        for query, _, words in sorted(group, key=lambda item: -item[2].size):
            one = _Class(query, label, words, [])
            if not clock.is_spent():
                clock.add(_try(one, margins, _BINS[0]))
            classes.append(one)
        if task.v > 128:  # the margins of all labels together would not fit
            kept.clear()
    _try_harder(classes, kept, tables, clock, tick)
    effort = np.zeros((task.v, tables.d_vocab_out), dtype=np.int32)
    rows: list[tuple[int, ...]] = []
    for one, chosen in _choose(classes, margins_cost, tables, budget.flops):
        effort[one.query, one.label] = chosen.effort
        rows += (_row(one, rival) for rival in chosen.order)
    return {"effort": effort, "order": np.array(rows, dtype=np.int32).reshape(-1, 6)}


def _row(one: _Class, rival: Rival) -> tuple[int, ...]:
    """A row of the tensor ``order``: columns of terms leave out the label, outputs do not."""
    output, pivot = (x + (x >= one.label) for x in (rival.output, rival.pivot))
    pivot = pivot if rival.eighths else -1
    return one.query, one.label, output, rival.group, pivot, rival.eighths


class _Clock:
    """Seconds used so far, and those that the proof of what was chosen will take again."""

    def __init__(self, began: float, limit: float | int | None, again: float) -> None:
        self.began, self.limit, self.again = began, limit, again

    def add(self, seconds: float) -> None:
        """The proof will spend this again."""
        self.again += seconds

    def is_spent(self) -> bool:
        """Whether search must stop for the proof to end in time."""
        if self.limit is None:
            return False
        return time.perf_counter() - self.began + 1.2 * self.again > self.limit


class _Counting(NamedTuple):
    """Margins with the ledger that all they do is entered into."""

    margins: Margins
    ledger: Ledger

    @staticmethod
    def of(tables: VerifiedTables, label: int) -> "_Counting":
        ledger = Ledger()
        return _Counting(Margins(tables, label, ledger), ledger)


def _try(one: _Class, counting: _Counting, effort: int, order: tuple[Rival, ...] = ()) -> float:
    """Run the kernel's step of a class; returns the seconds it adds to the proof."""
    before = one.best.seconds if one.best else 0.0
    margins, ledger = counting
    flops = ledger.flops
    began = time.perf_counter()
    wrong = wrong_of_class(margins, one.query, one.words, effort, ledger, order)
    seconds = time.perf_counter() - began
    trial = _Trial(effort, order, one.words.size - wrong, ledger.flops - flops, seconds)
    one.trials.append(trial)
    after = one.best.seconds if one.best else 0.0
    return after - before


def _try_harder(
    classes: list[_Class],
    kept: dict[int, _Counting],
    tables: VerifiedTables,
    clock: _Clock,
    tick: Tick,
) -> None:
    """Pass after pass over what is left open, each costlier than the one before."""
    passes = [_enumerate, *(step for bins in _BINS[1:] for step in (_Bins(bins), _Order(bins)))]
    for number, step in enumerate(passes):
        left = sorted(
            (one for one in classes if one.trials and one.left), key=lambda one: -one.left
        )
        open_in_all = sum(one.left for one in left)
        behind = 0
        for done, one in enumerate(left):
            tick((len(passes) + number) * len(left) + done, 2 * len(passes) * len(left))
            if clock.is_spent():
                return
            if number and 100 * behind > 99 * open_in_all:
                break
            behind += one.left
            if one.label not in kept:
                kept.clear()
                kept[one.label] = _Counting.of(tables, one.label)
            clock.add(step(one, kept[one.label]))


def _enumerate(one: _Class, counting: _Counting) -> float:
    return _try(one, counting, ENUMERATE) if one.left <= OPEN_PREFIXES else 0.0


class _Bins(NamedTuple):
    """Count in so many bins, unless the last increase gained little."""

    bins: int

    def __call__(self, one: _Class, counting: _Counting) -> float:
        tried = [one.words.size - t.correct for t in one.trials if t.effort > 0 and not t.order]
        if len(tried) > 1 and tried[-1] > 0.9 * tried[-2]:
            return 0.0
        return _try(one, counting, self.bins)


class _Order(NamedTuple):
    """Put the outputs in an order, with as many bins where these were of use."""

    bins: int

    def __call__(self, one: _Class, counting: _Counting) -> float:
        if all(trial.effort != self.bins for trial in one.trials):
            return 0.0
        order = _order_of(one, counting)
        return _try(one, counting, self.bins, order) if order else 0.0


def _order_of(one: _Class, counting: _Counting) -> tuple[Rival, ...]:
    """The order of a class where it can matter: two outputs that the worst case leaves open."""
    for trial in one.trials:
        if trial.order:
            return trial.order
    terms = class_terms(counting.margins, one.query, one.words)
    outputs = np.flatnonzero(np.asarray(worst_word(terms, one.words)) >= 0)
    if len(outputs) < 2 or not one.words.length:
        return ()
    return tuple(find_order(terms, outputs, one.words, seed=one.query))


def _choose(
    classes: list[_Class],
    margins_cost: dict[int, int],
    tables: VerifiedTables,
    flops: int | None,
) -> Iterator[tuple[_Class, _Trial]]:
    """The efforts that give most within ``flops``: by gain per FLOP, each after the one before."""
    tried = [one for one in classes if one.best is not None and one.best.correct]
    if flops is None:
        for one in tried:
            if one.best is not None:
                yield one, one.best
        return
    in_label: dict[int, int] = {}
    for one in tried:
        in_label[one.label] = in_label.get(one.label, 0) + 1
    steps: list[tuple[float, int, int, _Trial, int]] = []
    for number, one in enumerate(tried):
        cost, gain = margins_cost[one.label] // in_label[one.label], 0
        spent = 0
        for order, trial in enumerate(_hull(one.trials)):
            more, further = trial.correct - gain, trial.flops - spent + (cost if not order else 0)
            steps.append((-more / max(1, further), number, order, trial, trial.flops - spent))
            gain, spent = trial.correct, trial.flops
    left = flops - tables.start_ledger().flops
    used: set[int] = set()
    chosen: dict[int, tuple[int, _Trial]] = {}
    for _, number, order, trial, further in sorted(steps, key=lambda step: step[:3]):
        one = tried[number]
        opening = 0 if one.label in used else margins_cost[one.label]
        due = order and number not in chosen
        if due or further + opening > left:
            continue
        left -= further + opening
        used.add(one.label)
        chosen[number] = order, trial
    for number, (_, trial) in chosen.items():
        yield tried[number], trial


def _hull(trials: list[_Trial]) -> list[_Trial]:
    """Trials that no cheaper one beats, with falling gain per FLOP."""
    hull: list[_Trial] = []
    for trial in sorted(trials, key=lambda t: (t.flops, -t.correct)):
        if not trial.correct or (hull and trial.correct <= hull[-1].correct):
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], trial):
            hull.pop()
        if len(hull) == 1 and hull[0].correct / hull[0].flops <= _slope(hull[0], trial):
            hull.pop()
        hull.append(trial)
    return hull


def _slope(before: _Trial, after: _Trial) -> float:
    return (after.correct - before.correct) / max(1, after.flops - before.flops)
