"""What a mutant is."""

from typing import NamedTuple

from ..copies import Edit


class Mutant(NamedTuple):
    """An unsound kernel."""

    breaks: str
    edits: tuple[Edit, ...]


def edits_of(file: str, *rows: tuple[str, str, str]) -> list[Mutant]:
    """Mutants of one edit each: what it breaks, the old snippet, the new one."""
    return [Mutant(breaks, (Edit(file, old, new),)) for breaks, old, new in rows]
