"""The laws of theorems B and C: no bound above an exact margin, no claim that is not right."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from .drawn_codes import KINDS, Drawn, Subject, drawn_codes, few_values, subjects
from .laws_of_networks import transformer_for

BLOCK, SMALL_BLOCK = 1 << 19, 8
BY_CODE, BY_FORWARD_PASS, BY_RESIDUAL = 1, 2, 3


class Attempt:
    """Drawn codes of one subject, in the hands of a copy of the kernel."""

    def __init__(self, kernel: ModuleType, subject: Subject, drawn: Drawn, rule: str) -> None:
        self.kernel, self.subject, self.drawn = kernel, subject, drawn
        self.net = transformer_for(kernel, subject.net)
        self.task = kernel.parse_task(subject.task)
        self.codes_module: Any = sys.modules[f"{kernel.__name__}._codes"]
        self.ranges: Any = sys.modules[f"{kernel.__name__}._code_ranges"]
        self.rule = self.ranges.RANGE_RULES[rule]
        self.ledger = sys.modules[f"{kernel.__name__}._ledger"].Ledger()
        mids: Any = sys.modules[f"{kernel.__name__}._mid_tables"]
        self.mids = mids.LastMid(self.net, self.ledger)
        self.n, self.m = len(subject.label), subject.net.blocks[-1].d_mlp
        self.cells = len(drawn.bias)

    @property
    def name(self) -> str:
        return f"{self.subject.name}, {self.subject.task}, ranges of {self.rule.name}"

    def no_slopes(self) -> np.ndarray:
        return np.zeros((0, self.subject.net.d_vocab_out, self.m))

    def codes(self, claimed: np.ndarray) -> tuple[Any, Any, np.ndarray]:
        """What the kernel makes of the codes: checked, atoms, residuals."""
        witness = self.kernel.CellCodes(
            **self.drawn.arrays(), claimed=claimed.astype(np.int32), slope=self.no_slopes()
        )
        codes = self.codes_module.checked_codes("c", witness, self.net, self.task, BY_RESIDUAL)
        atoms = self.codes_module.Atoms.of(codes, self.net, self.ledger)
        return codes, atoms, self.codes_module.residuals(codes, atoms, self.mids, self.ledger)

    def additive(self, claimed: np.ndarray, sign: np.ndarray) -> Iterator[Any]:
        theorem: Any = sys.modules[f"{self.kernel.__name__}.theorems.crosscoder_b"]
        codes, atoms, rho = self.codes(claimed)
        yield from theorem.additive_bounds(
            self.net, codes, sign, self.rule, atoms, rho, self.ledger
        )

    def cells_bounds(self, claimed: np.ndarray, slope: np.ndarray | None) -> Iterator[Any]:
        theorem: Any = sys.modules[f"{self.kernel.__name__}.theorems.crosscoder_c"]
        codes, atoms, rho = self.codes(claimed)
        yield from theorem.cell_bounds(
            self.net, codes, slope, self.rule, atoms, rho, self.mids, self.ledger
        )


def attempts(
    kernel: ModuleType, seed: int, kinds: tuple[str, ...] = KINDS
) -> Iterator[tuple[np.random.Generator, Attempt]]:
    """Codes of every other of these kinds on every subject."""
    rng = np.random.default_rng(seed)
    with unchecked(kernel):
        codes: Any = sys.modules[f"{kernel.__name__}._codes"]
        for number, subject in enumerate(subjects()):
            for place, kind in enumerate(kinds):
                if (number + place + seed) % 2:
                    continue
                # Now and then blocks of a few numbers, so that nothing may hide at a block's end.
                codes._NUMBERS = SMALL_BLOCK if (number + place) % 5 == 0 else BLOCK
                rule = ("features", "sequences")[(number + place) // 2 % 2]
                yield rng, Attempt(kernel, subject, drawn_codes(rng, subject, kind), rule)


@contextmanager
def unchecked(kernel: ModuleType) -> Iterator[None]:
    """Without the check of the machine's arithmetic, which takes longer than a small proof."""
    codes: Any = sys.modules[f"{kernel.__name__}._codes"]
    size = codes._NUMBERS
    modules: list[Any] = [sys.modules[f"{kernel.__name__}.{n}"] for n in ("_codes", "_network")]
    before = modules[0].check_arithmetic
    try:
        for module in modules:
            module.check_arithmetic = lambda: None
        yield
    finally:
        for module in modules:
            module.check_arithmetic = before
        codes._NUMBERS = size


def above_truth(attempt: Attempt, bounds: Iterator[Any], wanted: np.ndarray) -> Iterator[str]:
    """Bounds above an exact margin, and sequences that got none."""
    seen = np.zeros(attempt.n, dtype=int)
    for members, lower in bounds:
        seen[members] += 1
        for n, x in np.argwhere(lower > attempt.subject.margin[members]):
            yield (
                f"{attempt.name}: sequence {members[n]} has margin "
                f"{attempt.subject.margin[members[n], x]} against output {x}, and the bound "
                f"{lower[n, x]}"
            )
            return
    if (seen != wanted).any():
        yield f"{attempt.name}: {seen} bounds for sequences, not {wanted}"


def drawn_signs(rng: np.random.Generator, attempt: Attempt, claimed: np.ndarray) -> np.ndarray:
    """Signs that hold of decodes and residuals; sometimes of the decodes alone, or one is wrong."""
    block, drawn, subject = attempt.subject.net.blocks[-1], attempt.drawn, attempt.subject
    sign = np.zeros((attempt.cells, attempt.m), dtype=np.int64)
    for cell in range(attempt.cells):
        members = (drawn.cell == cell) & (claimed == BY_CODE)
        if not members.any():
            sign[cell] = rng.integers(-1, 2, attempt.m)
            continue
        z = [drawn.decoded[members] @ block.W_in + block.b_in]
        if rng.random() < 0.5:
            z.append(subject.residual[members] @ block.W_in + block.b_in)
        every = np.concatenate(z)
        sign[cell] = np.where((every > 0).all(axis=0), 1, np.where((every < 0).all(axis=0), -1, 0))
        sign[cell] *= rng.random(attempt.m) < 0.8
    if attempt.m and rng.random() < 0.2:
        sign[rng.integers(attempt.cells), rng.integers(attempt.m)] = rng.choice([-1, 1])
    return sign


def ranges(kernel: ModuleType) -> Iterator[str]:
    """No decode and no residual leaves a range; one value a feature, so that ranges are tight."""
    rng = np.random.default_rng(66)
    with unchecked(kernel):
        for subject in subjects()[:4]:
            for number in range(12):
                drawn = few_values(rng, subject, 1 + number % 2)
                for rule in ("features", "sequences"):
                    attempt = Attempt(kernel, subject, drawn, rule)
                    attempt.codes_module._NUMBERS = SMALL_BLOCK if number % 3 else BLOCK
                    yield from _left(rng, attempt)


def _left(rng: np.random.Generator, attempt: Attempt) -> Iterator[str]:
    block, drawn, ledger = attempt.subject.net.blocks[-1], attempt.drawn, attempt.ledger
    ball: Any = sys.modules[f"{attempt.kernel.__name__}._enclosure"].Ball.exact
    claimed = rng.choice([0, BY_CODE, BY_RESIDUAL], attempt.n)
    codes, atoms, rho = attempt.codes(claimed)
    for group in codes.groups(BY_CODE, BY_RESIDUAL):
        beta = drawn.bias[group.cell] @ block.W_in + block.b_in
        radius = float(rho[group.members].max())
        low, high = attempt.ranges.neuron_ranges(
            attempt.rule,
            codes,
            group,
            atoms.reach,
            ball(beta, ledger),
            ball(np.array(block.W_in), ledger),
            radius,
            ledger,
        )
        decodes = drawn.decoded[group.members] @ block.W_in + block.b_in
        size = np.linalg.norm(block.W_in, axis=0) * radius
        room = 1e-9 * (1 + np.abs(decodes).max(initial=0.0) + size)
        if (decodes - size < low - room).any() or (decodes + size > high + room).any():
            # Not all of the ball about a decode is reached, but some sequence may reach any of it.
            yield f"{attempt.name}: a range leaves out what a decode or its residual may be"
            return


def false_signs(attempt: Attempt, claimed: np.ndarray, sign: np.ndarray) -> Iterator[str]:
    """Signs that were accepted and that a decode or a residual does not have."""
    block, members = attempt.subject.net.blocks[-1], claimed == BY_CODE
    own = sign[attempt.drawn.cell]
    for vectors in (attempt.subject.residual, attempt.drawn.decoded):
        z = vectors @ block.W_in + block.b_in
        room = 1e-9 * (1e-250 + np.abs(z).max(initial=0.0))
        if (members[:, None] & (((own > 0) & (z < -room)) | ((own < 0) & (z > room)))).any():
            yield f"{attempt.name}: a sign is accepted that a neuron does not have"
            return


def additive_margins(kernel: ModuleType) -> Iterator[str]:
    """Theorem B, function by function; a refused sign ends an attempt."""
    for rng, attempt in attempts(kernel, 62):
        claimed = rng.choice([0, BY_CODE, BY_CODE, BY_CODE], attempt.n)
        sign = drawn_signs(rng, attempt, claimed)
        try:
            bounds = list(attempt.additive(claimed, sign))
            yield from false_signs(attempt, claimed, sign)
        except kernel.RejectedError:
            sign[:] = 0
            bounds = list(attempt.additive(claimed, sign))
        yield from above_truth(attempt, iter(bounds), claimed == BY_CODE)


def cell_margins(kernel: ModuleType) -> Iterator[str]:
    """Theorem C, with the stated slopes and with any."""
    for rng, attempt in attempts(kernel, 63):
        claimed = rng.choice([0, BY_CODE, BY_CODE, BY_RESIDUAL], attempt.n)
        shape = (attempt.cells, attempt.subject.net.d_vocab_out, attempt.m)
        size = rng.choice([0.1, 1.0, 10.0])
        for slope in (None, size * rng.normal(size=shape)):
            bounds = attempt.cells_bounds(claimed, slope)
            wanted = np.isin(claimed, (BY_CODE, BY_RESIDUAL))
            yield from above_truth(attempt, bounds, wanted)


def middles(kernel: ModuleType) -> Iterator[str]:
    """The tables of the last residual say what a forward pass says, and no more loosely."""
    mids: Any = sys.modules[f"{kernel.__name__}._mid_tables"]
    network: Any = sys.modules[f"{kernel.__name__}._network"]
    ledger = sys.modules[f"{kernel.__name__}._ledger"].Ledger()
    for subject in subjects():
        net, task = transformer_for(kernel, subject.net), kernel.parse_task(subject.task)
        tokens = network.sequences(task, 0, task.total)
        found = mids.LastMid(net, ledger)(tokens)
        passed = network.last_mid(net, tokens, ledger)
        if (np.abs(found.mid - passed.mid) > found.rad + passed.rad).any():
            yield f"{subject.name}: the tables and a forward pass disagree"
        if (found.rad > 100 * passed.rad + 1e-290).any():
            yield f"{subject.name}: the tables are loose"


def claims(kernel: ModuleType) -> Iterator[str]:
    """Whole proofs: what is claimed and right by the bounds is counted, and nothing else."""
    for rng, attempt in attempts(kernel, 64, ("exact", "leaning")):
        subject = attempt.subject
        everything = np.full(attempt.n, BY_CODE)
        sign = np.zeros((attempt.cells, attempt.m), dtype=np.int32)
        for theorem, kinds in ((kernel.crosscoder_b, 2), (kernel.crosscoder_c, 3)):
            is_b = theorem is kernel.crosscoder_b
            bounds = (
                attempt.additive(everything, sign)
                if is_b
                else attempt.cells_bounds(everything, None)
            )
            worst = np.full(attempt.n, -np.inf)
            for members, lower in bounds:
                worst[members] = lower.min(axis=1, initial=np.inf)
            claimed = np.where(worst > 0, BY_CODE, 0)
            spared = rng.random(attempt.n) < 0.3
            claimed[spared] = np.where(subject.right[spared], BY_FORWARD_PASS, 0)
            yield from _proof(attempt, theorem, claimed, sign, is_b)
            wrong = np.flatnonzero(~subject.right)
            if not len(wrong):
                continue
            nearest = wrong[np.abs(subject.margin[wrong].min(axis=1)).argmin()]
            anyone = rng.choice(wrong), rng.integers(1, kinds + 1)
            for n, way in ((nearest, BY_CODE), (nearest, BY_FORWARD_PASS), anyone):
                lie = claimed.copy()
                lie[n] = way
                try:
                    _prove(attempt, theorem, lie, sign, is_b)
                    yield f"{attempt.name}: {theorem.__name__} lets a wrong sequence be claimed"
                except kernel.RejectedError:
                    pass


def malformed(kernel: ModuleType) -> Iterator[str]:
    """A sequence has one atom of a feature at most, and is claimed in a way that there is."""
    subject = subjects()[0]
    drawn = drawn_codes(np.random.default_rng(65), subject, "exact")
    n, values = len(subject.label), drawn.level.shape[1]
    sign = np.zeros((len(drawn.bias), subject.net.blocks[-1].d_mlp), dtype=np.int32)
    nothing = np.zeros(n, dtype=np.int32)
    twice = np.array(drawn.code)
    twice[-1, -1] = twice[-1, 0] // values * values + (twice[-1, 0] + 1) % values
    for name, codes, claimed in (
        ("two atoms of one feature", twice, nothing),
        ("claims by residual", drawn.code, nothing + BY_RESIDUAL),
    ):
        attempt = Attempt(kernel, subject, drawn._replace(code=codes), "features")
        try:
            _prove(attempt, kernel.crosscoder_b, claimed, sign, True)
            yield f"{name} are accepted"
        except kernel.MalformedError:
            pass


def _prove(
    attempt: Attempt, theorem: Any, claimed: np.ndarray, sign: np.ndarray, is_b: bool
) -> Any:
    kernel, drawn = attempt.kernel, attempt.drawn
    own = {"sign": sign} if is_b else {"slope": attempt.no_slopes()}
    kind = kernel.AdditiveCodes if is_b else kernel.CellCodes
    options = kernel.CodeOptions
    witness = kind(**drawn.arrays(), claimed=claimed.astype(np.int32), **own)
    return theorem(attempt.net, attempt.task, options(attempt.rule), witness=witness)


def _proof(
    attempt: Attempt, theorem: Any, claimed: np.ndarray, sign: np.ndarray, is_b: bool
) -> Iterator[str]:
    """A proof of claims that hold counts each of them, in the class that it belongs to."""
    subject, kernel = attempt.subject, attempt.kernel
    near = np.abs(subject.margin).min(axis=1, initial=np.inf) < 1e-6
    try:
        proved = _prove(attempt, theorem, claimed, sign, is_b)
    except kernel.RejectedError as error:
        # Another choice of members may flip a stated slope; a near tie may stay open.
        if is_b and not (near & (claimed == BY_FORWARD_PASS)).any():
            yield f"{attempt.name}: claims that hold are refused: {error}"
        return
    network: Any = sys.modules[f"{kernel.__name__}._network"]
    tokens = network.sequences(attempt.task, 0, attempt.task.total)
    for q, y, size, correct in proved.by_class:
        own = (tokens[:, -1] == q) & (subject.label == y)
        if size != own.sum() or correct > (own & subject.right).sum():
            yield f"{attempt.name}: {correct} of {size} in class ({q}, {y})"
        if correct != (own & (claimed > 0)).sum():
            yield f"{attempt.name}: {correct} counted in class ({q}, {y})"
    if proved.claim.correct != (claimed > 0).sum():
        yield f"{attempt.name}: {proved.claim.correct} counted of {(claimed > 0).sum()} claimed"


LAWS = (middles, malformed, ranges, additive_margins, cell_margins, claims)


def beginning_with(law: Callable[[ModuleType], Iterator[str]]) -> Callable[..., Iterator[str]]:
    """All laws of theorems B and C, this one first."""

    def laws(kernel: ModuleType) -> Iterator[str]:
        for one in (law, *LAWS):
            yield from one(kernel)

    return laws


WEAK_SPOTS = {
    "_mid_tables.py": beginning_with(middles),
    "_codes.py": beginning_with(malformed),
    "_code_ranges.py": beginning_with(ranges),
    "theorems/_coded.py": beginning_with(claims),
    "theorems/crosscoder_b.py": beginning_with(additive_margins),
    "theorems/crosscoder_c.py": beginning_with(cell_margins),
}
"""Where a defect of a file shows soonest."""
