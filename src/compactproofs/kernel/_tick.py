"""How long work reports its progress; a tick may raise to stop it."""

from collections.abc import Callable

Tick = Callable[[int, int], None]
"""Called with the units of work done and the units in all."""


def no_tick(done: int, of: int) -> None:
    """Report nothing."""
