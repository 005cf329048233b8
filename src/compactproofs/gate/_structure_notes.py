"""Notes of what certified cells do without: one fact of one kind about one cell, proved.

The text is a JSON object: ``cell``, ``kind`` and ``facts`` (units after the cut, numbered as in the
pattern of a cell; paths left out with the widths of what is left) or ``sites`` (by name). A note
depends on the certificate of its cell, and falls with it.
"""

import json
from typing import Any, Final, NamedTuple

from ..kernel.gate import History, NoteEntry

STRUCTURE_TOPIC: Final = "structure"


class StructureCount(NamedTuple):
    """Of one kind: how many cells have a note, and how many units or sites the notes name."""

    kind: str
    cells: int
    units: int


def structure_note(cell: str, kind: str, **facts: Any) -> str:
    """The text of a note."""
    return json.dumps({"cell": cell, "kind": kind, **facts})


def structure_counts(history: History) -> list[StructureCount]:
    """Of each kind, over the notes that were not retracted; somebody else's notes are left out."""
    cells: dict[str, set[str]] = {}
    units: dict[str, set[Any]] = {}
    for _, note in history.living(NoteEntry):
        if note.topic != STRUCTURE_TOPIC:
            continue
        try:
            said = json.loads(note.text)
            cell, kind = str(said["cell"]), str(said["kind"])
            named = [(cell, str(unit)) for unit in said.get("sites") or _units(kind, said["facts"])]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            continue
        cells.setdefault(kind, set()).add(cell)
        units.setdefault(kind, set()).update(named)
    return [StructureCount(kind, len(cells[kind]), len(units[kind])) for kind in cells]


def _units(kind: str, facts: list[Any]) -> list[Any]:
    if kind == "negligible":
        return list(range(min(int(facts[0]["paths"]), 1 << 20)))
    if kind == "duplicate":
        return [(fact["layer"], fact["unit"]) for fact in facts]
    return facts
