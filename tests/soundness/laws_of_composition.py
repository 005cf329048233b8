"""The law of composition: proofs of parts that tile a task add up, and nothing else does."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from random_models import max_like_model

from .truth import exact_truth


def compositions(kernel: ModuleType) -> Iterator[str]:
    """Parts prove no more than is true of them; only a tiling of one task composes."""
    rng = np.random.default_rng(12)
    ours = max_like_model(rng, k=3, v=4, noise=0.8)
    model = kernel.Model(**vars(ours))
    other = kernel.Model(**vars(max_like_model(rng, k=3, v=4, noise=0.8)))
    truth = exact_truth(ours)

    def part(first: int, last: int, of: Any = model, semantics: str = "real") -> Any:
        task = kernel.parse_task(f"max:k=3,v=4,q={first}-{last}", parts=True)
        tables = kernel.verify_tables(of, kernel.integer_tables(of, semantics), semantics)
        return kernel.brute_force(tables, task, kernel.BruteForceOptions())

    for first, last in ((0, 0), (1, 2), (0, 2), (3, 3)):
        proved = part(first, last)
        size = sum(count.size for (q, _), count in truth.items() if first <= q <= last)
        right = sum(count.right for (q, _), count in truth.items() if first <= q <= last)
        if proved.claim.total != size or proved.claim.correct > right:
            yield f"{proved.claim.correct}/{proved.claim.total} of {first}-{last}: {right}/{size}"
        if proved.claim.task_sha256 == kernel.MaxOfK(3, 4).digest:
            yield "a part has the digest of the whole"
    whole = kernel.compose([part(3, 3), part(0, 1), part(2, 2)])
    right = sum(count.right for count in truth.values())
    if whole.claim.total != 64 or whole.claim.correct != right:
        yield f"composed: {whole.claim.correct}/{whole.claim.total}, in truth {right}/64"
    if not whole.claim.task_sha256 == kernel.MaxOfK(3, 4).digest:
        yield "the composed claim is not about the whole task"
    for name, proofs in (
        ("the last query missing", [part(0, 2)]),
        ("the first query missing", [part(1, 3)]),
        ("a query missing", [part(0, 0), part(2, 3)]),
        ("a query twice", [part(0, 2), part(2, 3)]),
        ("a part twice", [part(0, 1), part(0, 1), part(2, 3)]),
        ("another model", [part(0, 1), part(2, 3, other)]),
        ("other semantics", [part(0, 1), part(2, 3, semantics="float32")]),
        ("a composed part", [whole]),
    ):
        try:
            kernel.compose(proofs)
        except kernel.OptionError:
            continue
        yield f"{name}: composed all the same"
