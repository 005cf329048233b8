"""Composition: proofs of parts of a task that tile it add up to a proof of the whole.

Theorem. If the queries of the parts are ranges that cover every token exactly once, the parts'
sequences are a disjoint cover of the whole task's, so the sequences proved right add up. The parts
must be about one model, under one semantics; each may use its own theorem.
"""

from collections.abc import Sequence

from ._claim import _SEAL, Claim, Outcome, Proved
from ._errors import OptionError
from ._tasks import parse_task

COMPOSED = "composed"
"""The name that stands in the place of a theorem's."""


def compose(parts: Sequence[Proved]) -> Proved:
    """Add up proofs of parts of a task, in any order; OptionError if they do not tile it.

    Cost: one addition a part for each number.
    """
    if not parts:
        raise OptionError("nothing to combine: pass the proofs of all parts of a task")
    tasks = [parse_task(part.claim.task, parts=True) for part in parts]
    paired = sorted(zip(tasks, parts, strict=True), key=lambda pair: pair[0].queries.start)
    whole = tasks[0].whole
    first = paired[0][1].claim
    expected = 0
    for task, part in paired:
        claim = part.claim
        if task.queries == range(task.v):
            raise OptionError(f"{claim.task} is a whole task already: combine proofs of its parts")
        for name in ("model_sha256", "semantics", "distribution", "metric", "kernel"):
            ours, theirs = getattr(first, name), getattr(claim, name)
            if ours != theirs:
                raise OptionError(f"the parts disagree: {name} {ours} of one, {theirs} of another")
        if task.whole.digest != whole.digest:
            raise OptionError(f"the parts disagree: {claim.task} is no part of {whole.name}")
        if task.queries.start != expected:
            kind = "missing" if task.queries.start > expected else "there twice"
            first_bad = min(task.queries.start, expected)
            last_bad = max(task.queries.start, expected) - 1
            raise OptionError(f"the parts do not tile {whole.name}: {first_bad}-{last_bad} {kind}")
        expected = task.queries.stop
    if expected != whole.v:
        raise OptionError(f"the parts do not tile {whole.name}: {expected}-{whole.v - 1} missing")
    in_order = tuple(part for _, part in paired)
    by_class = tuple(one for part in in_order for one in part.by_class)
    by_label: dict[int, int] = {}
    for one in by_class:
        by_label[one.label] = by_label.get(one.label, 0) + one.size

    def total(field: str) -> int:
        return sum(int(getattr(part.claim, field)) for part in in_order)

    claim = Claim(
        model_sha256=first.model_sha256,
        task=whole.name,
        task_sha256=whole.digest,
        theorem=COMPOSED,
        options=(),
        correct=total("correct"),
        total=whole.total,
        undecided=total("undecided"),
        flops=total("flops"),
        radius_flops=total("radius_flops"),
        unexplained_dimension=total("unexplained_dimension"),
        semantics=first.semantics,
    )
    outcome = Outcome.PROVED if claim.correct > max(by_label.values()) else Outcome.VACUOUS
    return Proved(claim, outcome, None, None, by_class, in_order, seal=_SEAL)
