"""What the discovery loop asks of a ledger: freeze, observe, count, refuse, retract.

The law that everything measured rests on: an observation counts for a rule only if it arrived after
the rule was frozen. A rule book alone says when that was, so there is no way to ask for a count of
older data; and every frozen proposal keeps its share of alpha, whatever becomes of it.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from compactproofs.kernel import UserError
from compactproofs.kernel.gate._alpha import AlphaAccount
from compactproofs.kernel.gate._confidence_sequences import confidence_sequence
from compactproofs.kernel.gate._credal import Statement
from compactproofs.kernel.gate._proportions import Interval, clopper_pearson

from ._events import Event
from ._source import Batch
from .propose._proposal import Proposal


class RuleBookError(UserError):
    """A rule that this book does not hold, or that is no longer open."""


@dataclass(frozen=True, eq=False)
class Frozen:
    """A proposal that nobody can change any more, under its id in the book."""

    id: str
    proposal: Proposal
    alpha: Fraction
    born: int
    """How many observations the book had when it was frozen."""
    take: int | None
    """Counted once, on exactly so many later observations; None: at every look (a sequence)."""


@runtime_checkable
class RuleBook(Protocol):
    """A ledger, as the discovery loop sees it."""

    @property
    def position(self) -> int:
        """How many observations have arrived."""
        ...

    @property
    def spent(self) -> Fraction:
        """Probability of error charged so far: for rules accepted, pending and refused alike."""
        ...

    def freeze(self, proposal: Proposal, take: int | None) -> Frozen:
        """Fix ``proposal`` before the data that will decide on it, and charge its alpha."""
        ...

    def observe(self, batch: Batch) -> None:
        """Append observations, each of them once."""
        ...

    def count(self, frozen: Frozen) -> Interval | None:
        """The interval of P(then | given) from data after the birth; None while there are too few.

        It is stored, and is what the rule states from here on.
        """
        ...

    def refuse(self, frozen: Frozen, reason: str) -> None:
        """The data spoke against it, or it was not needed; its alpha stays spent."""
        ...

    def retract(self, rule: str, reason: str) -> None:
        """Take back a rule that was accepted; its alpha stays spent."""
        ...

    def certify(self, proposal: Proposal) -> str:
        """Append the certificate of a PROVED proposal; its id. Raises RejectedError."""
        ...

    def name_of(self, event: Event) -> str:
        """What statements call an event."""
        ...

    def statements(self) -> list[Statement]:
        """What the rules say that were counted and neither refused nor retracted."""
        ...


class _Kept(NamedTuple):
    frozen: Frozen
    interval: Interval | None
    state: str


class MemoryBook:
    """A rule book without a file, for trying things out; the kernel's intervals and account.

    It certifies nothing: a PROVED proposal's ``certify`` is called with the book itself.
    """

    def __init__(self, alpha: Fraction) -> None:
        """Empty: it knows nothing. Raises OptionError unless 0 < alpha < 1."""
        self._account = AlphaAccount(alpha)
        self._rules: dict[str, _Kept] = {}
        self._batches: list[Batch] = []
        self.position = 0

    @property
    def spent(self) -> Fraction:
        """See `RuleBook`."""
        return self._account.spent

    def freeze(self, proposal: Proposal, take: int | None) -> Frozen:
        """See `RuleBook`. Raises RuleBookError for a ``take`` below 1."""
        if take is not None and take < 1:
            raise RuleBookError(f"take = {take} observations: a count needs at least 1")
        name = f"rule{len(self._rules) + 1}"
        alpha = self._account.spend(name)
        frozen = Frozen(name, proposal, alpha, self.position, take)
        self._rules[name] = _Kept(frozen, None, "pending")
        return frozen

    def observe(self, batch: Batch) -> None:
        """See `RuleBook`."""
        self._batches.append(Batch(*(array.copy() for array in batch)))
        self.position += len(batch.h)

    def count(self, frozen: Frozen) -> Interval | None:
        """See `RuleBook`. Raises RuleBookError for a rule that is not this book's or not open."""
        kept = self._open(frozen)
        stop = self.position if frozen.take is None else frozen.born + frozen.take
        if stop > self.position:
            return None
        k, n = self._counted(frozen, stop)
        if frozen.take is None:
            interval = confidence_sequence(k, n, frozen.alpha, kept.interval)
        else:
            interval = clopper_pearson(k, n, frozen.alpha)
        self._rules[frozen.id] = _Kept(frozen, interval, kept.state)
        return interval

    def refuse(self, frozen: Frozen, reason: str) -> None:
        """See `RuleBook`."""
        self._rules[frozen.id] = self._open(frozen)._replace(state=f"refused: {reason}")

    def retract(self, rule: str, reason: str) -> None:
        """See `RuleBook`. Raises RuleBookError if there is no such rule."""
        if rule not in self._rules:
            raise RuleBookError(f"there is no rule {rule!r} to retract")
        self._rules[rule] = self._rules[rule]._replace(state=f"retracted: {reason}")

    def certify(self, proposal: Proposal) -> str:
        """See `RuleBook`."""
        if proposal.certify is None:
            raise RuleBookError(f"a {proposal.kind} proposal has no certificate: freeze it instead")
        return proposal.certify(self)

    def name_of(self, event: Event) -> str:
        """See `RuleBook`."""
        return event.id

    def statements(self) -> list[Statement]:
        """See `RuleBook`."""
        return [
            Statement(
                frozenset(map(self.name_of, kept.frozen.proposal.given)),
                frozenset(map(self.name_of, kept.frozen.proposal.then)),
                kept.interval.low,
                kept.interval.high,
            )
            for kept in self._rules.values()
            if kept.interval is not None and kept.state == "pending"
        ]

    def _open(self, frozen: Frozen) -> _Kept:
        kept = self._rules.get(frozen.id)
        if kept is None or kept.frozen is not frozen:
            raise RuleBookError(f"rule {frozen.id} was not frozen by this book: freeze it here")
        if kept.state != "pending":
            raise RuleBookError(f"rule {frozen.id} is {kept.state}: propose a new one")
        return kept

    def _counted(self, frozen: Frozen, stop: int) -> tuple[int, int]:
        k = n = start = 0
        for batch in self._batches:
            inside = slice(max(frozen.born - start, 0), max(stop - start, 0))
            given = batch.having(frozen.proposal.given)[inside]
            then = batch.having(frozen.proposal.then)[inside]
            n += int(np.count_nonzero(given))
            k += int(np.count_nonzero(given & then))
            start += len(batch.h)
        return k, n
