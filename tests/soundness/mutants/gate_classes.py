"""Of the gate over the cells of a class-wise theorem."""

from .form import edits_of

GATE_CLASSES = edits_of(
    "gate/_class_cells.py",
    (
        "classes proved in part are cells",
        "if part.correct == part.size:",
        "if part.correct:",
    ),
    ("coverage of other classes", "admitted += part.size", "admitted += part.correct + 1"),
    (
        "tokens below the vocabulary",
        "(tokens >= 0) & (tokens < self.task.v)",
        "(tokens < self.task.v)",
    ),
    (
        "smaller tokens anywhere",
        "right[rows] = (safe | ~smaller[rows]).all(axis=1)",
        "right[rows] = (safe | ~smaller[rows]).any(axis=1)",
    ),
    (
        "one smaller token fewer",
        "before[rows], count - 1]",
        "before[rows], max(count - 2, 0)]",
    ),
    (
        "label and query swapped",
        "self.fillings[query[rows, None], label[rows, None]",
        "self.fillings[label[rows, None], query[rows, None]",
    ),
    ("constant sequences admitted unseen", "self.whole[query, label] & (n == 0)", "(n == 0)"),
    (
        "the label may be missing",
        "most = k - 1 if label == safe.query else k - 2",
        "most = k - 1",
    ),
)
