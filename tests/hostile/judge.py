"""What a certificate is about, and whether a verdict on a mutant of it is wrong.

A verdict of ``check`` is wrong if it is no verdict (an exception, or no end), or if it is valid
although one of these fails: the claim has the numbers of a fresh proof from the mutant's own
tensors, the bound is at most the exhaustively computed truth, the digest is the documented one,
and no number of the model lies outside the mutant's tables. The last and the truth come from
``soundness.truth``, which shares no code with the kernel.
"""

import sys
import time
from functools import cache
from math import gcd
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from flint import arb, ctx
from safetensors.numpy import load

from certificates import claim_of
from soundness.truth import ArbStreams, arb_streams

from .files import Entry, digest, entries

SECONDS = 20.0
"""Of this process: a check of a model this small that takes longer does not end soon enough."""
BITS = 512
UNPRINTABLE = "its reason is not one printable line"


class Subject(NamedTuple):
    """A good certificate, and everything needed to judge what becomes of it."""

    name: str
    kernel: ModuleType
    model: Any
    task: Any
    theorem: str
    data: bytes
    right: int
    """Sequences of the task that the model gets right, by exhaustion."""
    semantics: str = "real"
    right_by_query: tuple[int, ...] = ()
    """The same of the whole task, by last token."""

    @property
    def claim(self) -> dict[str, Any]:
        """The claim's fields; a fresh copy."""
        return claim_of(self.data)

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors as arrays; fresh copies."""
        return load(self.data)

    @property
    def entries(self) -> dict[str, Entry]:
        """The tensors as they lie in the file; a fresh dict."""
        return entries(self.tensors)


class Ruling(NamedTuple):
    """What became of a mutant."""

    outcome: str
    fault: str | None
    """Why the verdict is wrong; None if it is not."""


def judge(subject: Subject, data: bytes, *, must_hold: bool = False) -> Ruling:
    """Check ``data``, and check the check.

    must_hold: the mutant is as good as the original, and refusing it is a fault too.
    """
    began = time.process_time()
    try:
        verdict = subject.kernel.check(data, subject.model, subject.task)
    except Exception as error:
        return Ruling("CRASHED", f"check raised {type(error).__name__}: {str(error)[:200]}")
    name = verdict.outcome.name
    if time.process_time() - began > SECONDS:
        return Ruling(name, f"took {time.process_time() - began:.0f} seconds")
    if "\n" in verdict.reason or not verdict.reason.isprintable():
        return Ruling(name, f"{UNPRINTABLE}: {verdict.reason[:200]!r}")
    if not verdict.valid:
        return Ruling(name, f"refused: {verdict.reason[:300]}" if must_hold else None)
    return Ruling(name, fault_of_valid(subject, data))


def fault_of_valid(subject: Subject, data: bytes) -> str | None:
    """Why this file does not deserve a valid verdict, or None."""
    fields, tensors = claim_of(data), load(data)
    kernel, model, task = subject.kernel, subject.model, subject.task
    fixed = {
        "distribution": "uniform",
        "format": 1,
        "kernel": kernel.__version__,
        "metric": "accuracy",
        "model_sha256": model.sha256,
        "task": task.name,
        "task_sha256": task.digest,
        "total": str(task.total),
    }
    for name, value in fixed.items():
        if fields[name] != value:
            return f"it is accepted with {name} = {fields[name]!r:.80}"
    correct, total = int(fields["correct"]), task.total
    common = gcd(correct, total)
    if fields["bound"] != f"{correct // common}/{total // common}":
        return f"it is accepted with bound {fields['bound']!r:.80} of {correct} right"
    if fields["semantics"] not in ("real", "float32"):
        return f"it is accepted with semantics {fields['semantics']!r:.80}"
    if correct > subject.right:
        return f"{correct} right are accepted, in truth {subject.right}"
    if fields["digest"] != digest(fields, entries(tensors)):
        return "it is accepted with a wrong digest"
    try:
        fresh = fresh_fields(subject, fields, tensors)
    except Exception as error:
        return f"accepted, but proving it again raises {type(error).__name__}: {error}"
    if isinstance(fresh, str):
        return fresh
    different = [name for name in fresh if fresh[name] != fields[name]]
    if different or {*fields} | {"digest"} != {*fresh} | {"digest"}:
        return f"accepted, but a fresh proof differs in {different}"
    return None


def fresh_fields(
    subject: Subject, fields: dict[str, Any], tensors: dict[str, np.ndarray]
) -> dict[str, Any] | str:
    """The claim of a proof made now from these tensors, or why it is false."""
    kernel = subject.kernel
    if fields["theorem"] == "composed":
        return fresh_sum(subject, fields, tensors)
    if "weight_low" in tensors:
        outside = outside_of(subject, tensors, fields["semantics"])
        if outside:
            return f"accepted though the model's number is outside at {outside}"
    theorem = kernel.THEOREMS[fields["theorem"]]
    options = theorem.parse_options(
        {name: int(text) if text.isdigit() else text for name, text in fields["options"].items()}
    )
    names = kernel.IntegerTables._fields
    own = {name: array for name, array in tensors.items() if name not in names}
    witness = kernel.witness_from(theorem.witness, own) if own else None
    of = subject.model
    if theorem.from_tables:
        claimed = kernel.IntegerTables(**{name: tensors[name] for name in names})
        of = kernel.verify_tables(of, claimed, fields["semantics"])
    proved = theorem.prove(of, subject.task, options, kernel.no_tick, witness)
    return kernel.claim_fields(proved.claim)


def fresh_sum(
    subject: Subject, fields: dict[str, Any], parts: dict[str, np.ndarray]
) -> dict[str, Any] | str:
    """The claim that the parts add up to, each judged by itself; a text if they do not tile."""
    kernel, whole = subject.kernel, subject.task
    claims: list[dict[str, Any]] = []
    queries: list[int] = []
    for n in range(len(parts)):
        data = parts[f"part.{n}"].tobytes()
        claim = claim_of(data)
        task = kernel.parse_task(claim["task"], parts=True)
        if task.whole.name != whole.name or claim["theorem"] == "composed":
            return f"accepted with a part about {claim['task']} by {claim['theorem']}"
        if claim["semantics"] != fields["semantics"]:
            return "accepted with parts of other semantics"
        right = sum(subject.right_by_query[q] for q in task.queries)
        fault = fault_of_valid(subject._replace(task=task, right=right), data)
        if fault:
            return f"accepted with a false part: {fault}"
        claims.append(claim)
        queries += task.queries
    if queries != list(range(whole.v)):
        return f"accepted though its parts are about the queries {queries}"
    return fields | {
        name: str(sum(int(claim[name]) for claim in claims))
        for name in (*"correct flops radius_flops total undecided".split(), "unexplained_dimension")
    }


# Whether tables enclose, by arithmetic that is not the kernel's.


@cache
def numbers_of(model: Any) -> ArbStreams:
    """The model's numbers at ``BITS`` bits, in another order of operations than the kernel's."""
    return arb_streams(model, BITS)


@cache
def balls_of(kernel: ModuleType, model: Any) -> ArbStreams:
    """What float32 evaluations act like, around the model's numbers; the kernel's own, by Arb."""
    found = sys.modules[f"{kernel.__name__}._tables_arb"].arb_tables(model, BITS, "float32")
    return ArbStreams(found.scores, found.values, found.direct)


def outside_of(
    subject: Subject, tensors: dict[str, np.ndarray], semantics: str = "real"
) -> str | None:
    """An entry of the tables that certainly does not enclose the model's number."""
    numbers = numbers_of(subject.model)
    if semantics == "float32":
        numbers = balls_of(subject.kernel, subject.model)
    exponent = tensors["weight_exponent"]
    down = -int(tensors["grid"][0])
    before, ctx.prec = ctx.prec, BITS
    try:
        for at in np.ndindex(*exponent.shape):
            i, q, t = at
            score = numbers.scores[i][q][t] - arb(float(tensors["shift"][q]))
            ends = tensors["weight_low"][at], tensors["weight_high"][at]
            below, above = score.lower().exp(), score.upper().exp()
            if _outside(below, above, *ends, int(exponent[at])):
                return f"weight {at}"
        for name, table in (("value", numbers.values), ("direct", numbers.rest)):
            low, high = tensors[f"{name}_low"], tensors[f"{name}_high"]
            for at in np.ndindex(*low.shape):
                number: Any = table
                for index in at:
                    number = number[index]
                if _outside(number.lower(), number.upper(), low[at], high[at], down):
                    return f"{name} {at}"
    finally:
        ctx.prec = before
    return None


def _outside(below: arb, above: arb, low: Any, high: Any, exponent: int) -> bool:
    """Whether an interval is certainly not around both ends; they may err by 2^-450."""
    end, other = arb((int(low), exponent)), arb((int(high), exponent))
    slack = arb((1, -450)) * (abs(below) + abs(above))
    return bool(below + slack < end) or bool(above - slack > other)
