"""What is claimed, what it takes to have proved it, and how a check can end."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import NamedTuple, final

from ._errors import KernelDefectError, TaskError
from ._frozen import Immutable
from ._integers import IntegerTables, VerifiedTables
from ._ledger import Ledger
from ._model import Model
from ._tasks import Task, is_task_name, meaning_digest, parse_task
from ._transformer import Transformer
from ._version import __version__
from ._witness import Witness, frozen_witness


class Outcome(Enum):
    """How a proof or a check ended; the value is advice for the reader."""

    PROVED = "the bound holds for exactly this model and task"
    VACUOUS = (
        "the bound holds, but a constant answer does as well: a tighter theorem, more bins or a "
        "better trained model is needed"
    )
    REJECTED = "the certificate does not hold: do not trust it, prove again"
    MALFORMED = "the file is not a certificate this version can read: copy or make it again"
    MISMATCH = "the certificate is about another model or task: pass the ones it names"


@final
@dataclass(frozen=True)
class Claim:
    """``E metric(M, t) >= correct / total`` over the task's uniform distribution.

    Equal claims are equal in every number; nothing in a claim is approximate.
    """

    model_sha256: str
    task: str
    task_sha256: str
    theorem: str
    options: tuple[tuple[str, int | str], ...]
    correct: int
    """Sequences proved right: the answer's logit strictly exceeds every other."""
    total: int
    """All sequences."""
    undecided: int
    """Sequences proved neither right nor wrong."""
    flops: int
    """Point and integer operations of the trusted computation (docs/theory.md section 6)."""
    radius_flops: int
    """Operations that only carry error bounds along."""
    unexplained_dimension: int
    distribution: str = "uniform"
    metric: str = "accuracy"
    semantics: str = "real"
    kernel: str = __version__

    @property
    def bound(self) -> Fraction:
        """The proved lower bound on the accuracy."""
        return Fraction(self.correct, self.total)

    @property
    def bound_decimal(self) -> str:
        """The bound to ten decimals, rounded down."""
        scaled = self.correct * 10**10 // self.total
        return f"{scaled // 10**10}.{scaled % 10**10:010d}"


class ClassCount(NamedTuple):
    """What a theorem proved of one class: sequences with this query and this label."""

    query: int
    label: int
    size: int
    correct: int


_SEAL = object()


@final
class Proved(Immutable):
    """The only carrier of a bound: a claim whose computation has run to its end."""

    __slots__ = ("by_class", "claim", "outcome", "parts", "tables", "witness")

    claim: Claim
    outcome: Outcome
    """PROVED, or VACUOUS if a constant answer is as accurate as the bound."""
    tables: IntegerTables | None
    """The tables that the theorem counted from; None if it went back to the weights."""
    witness: Witness | None
    """What the theorem took besides, if anything: choices that make the bound tighter."""
    by_class: tuple[ClassCount, ...]
    """The same count class by class; a disjoint cover of all sequences."""
    parts: "tuple[Proved, ...]"
    """The proofs that this one is composed of; none if a theorem gave it."""

    def __init__(
        self,
        claim: Claim,
        outcome: Outcome,
        tables: IntegerTables | None,
        witness: Witness | None,
        by_class: tuple[ClassCount, ...],
        parts: "tuple[Proved, ...]" = (),
        *,
        seal: object,
    ) -> None:
        """Only a theorem's ``conclude`` and the rule of composition hold the seal."""
        if seal is not _SEAL:
            raise TypeError("Proved comes from a theorem alone; run prove(...)")
        self._assign(
            claim=claim,
            outcome=outcome,
            tables=tables,
            witness=witness,
            by_class=by_class,
            parts=parts,
        )


def require_fit(task: Task, model: Model | Transformer | VerifiedTables) -> None:
    """Refuse a task that does not fit the inputs and outputs of a model or of its tables."""
    for what, wanted, found in (("k", task.k, model.n_ctx), ("v", task.v, model.d_vocab)):
        if wanted != found:
            raise TaskError(
                f"the task {task.name} has {what}={wanted}, but the model has {what}={found}: "
                f"pass a task with {what}={found}"
            )
    labels = task.automaton.label
    if int(labels.min()) < 0 or int(labels.max()) >= model.d_vocab_out:
        raise TaskError(
            f"the task {task.name} has labels up to {int(labels.max())}, but the model has "
            f"{model.d_vocab_out} outputs"
        )


def _named(task: Task) -> Task:
    """The task that the name of ``task`` means."""
    return parse_task(task.name, parts=True) if is_task_name(task.name) else task


def conclude(
    theorem: str,
    options: Mapping[str, int | str],
    tables: VerifiedTables | Model | Transformer,
    task: Task,
    by_class: list[ClassCount],
    undecided: int,
    unexplained_dimension: int,
    ledger: Ledger,
    witness: Witness | None = None,
) -> Proved:
    """The last step of every theorem: add up classes that cover all sequences exactly once.

    tables: what the theorem counted from; the network itself if it went back to the weights.
    Refuses a task that they do not fit, whatever the theorem made of it.
    """
    require_fit(task, tables)
    counted = tables if isinstance(tables, VerifiedTables) else None
    digest = meaning_digest(task)
    if meaning_digest(_named(task)) != digest:
        raise TaskError(f"a task that is not {task.name} has its name: rename it")
    by_label: dict[int, int] = {}
    for part in by_class:
        if not 0 <= part.correct <= part.size:
            raise KernelDefectError(f"class {part} counts more sequences than it has")
        by_label[part.label] = by_label.get(part.label, 0) + part.size
    if (
        len({part[:2] for part in by_class}) != len(by_class)
        or not all(part.query in task.queries for part in by_class)
        or sum(by_label.values()) != task.total
    ):
        raise KernelDefectError(f"the classes do not cover the {task.total} sequences")
    correct = sum(part.correct for part in by_class)
    claim = Claim(
        model_sha256=(tables.model_sha256 if isinstance(tables, VerifiedTables) else tables.sha256),
        task=task.name,
        task_sha256=digest,
        theorem=theorem,
        options=tuple(sorted(options.items())),
        correct=correct,
        total=task.total,
        undecided=undecided,
        flops=ledger.flops,
        radius_flops=ledger.radius_flops,
        unexplained_dimension=unexplained_dimension,
        semantics="real" if counted is None else counted.semantics,
    )
    outcome = Outcome.PROVED if correct > max(by_label.values()) else Outcome.VACUOUS
    claimed = None if counted is None else counted.claimed
    kept = None if witness is None else frozen_witness(witness)
    return Proved(claim, outcome, claimed, kept, tuple(by_class), seal=_SEAL)
