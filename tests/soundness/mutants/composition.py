"""Of parts of a task, and of their composition."""

from .form import edits_of

COMPOSITION = [
    *edits_of(
        "_composition.py",
        ("gaps accepted", "task.queries.start != expected", "task.queries.start < expected"),
        ("overlaps accepted", "task.queries.start != expected", "task.queries.start > expected"),
        ("the end may be missing", "if expected != whole.v:", "if expected > whole.v:"),
        ("models mixed", '("model_sha256", "semantics",', '("semantics",'),
        ("semantics mixed", '"semantics", "distribution"', '"distribution"'),
        ("undecided counted as right", 'correct=total("correct")', 'correct=total("total")'),
    ),
    *edits_of(
        "_tasks.py",
        ("classes of all queries", "if one[0] in self._queries)", "if one[0] >= 0)"),
    ),
    *edits_of(
        "_task.py",
        ("a part named as the whole", "if task.queries != range(task.v):", "if not task.k:"),
        ("totals of the whole", "return len(self.queries) *", "return self.v *"),
    ),
]
