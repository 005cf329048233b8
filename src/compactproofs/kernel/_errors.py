"""What can go wrong, one line each: the input, the value seen, the way out."""

from typing import Final

_KEPT: Final = 400


def one_line(message: str) -> str:
    """A message that may quote a hostile file: one printable line, its middle cut if it is long."""
    if len(message) > 2 * _KEPT:
        message = f"{message[:_KEPT]}...{message[-_KEPT:]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


class UserError(Exception):
    """Misuse, in one line that a user can act on; the CLI prints it and exits with 2."""

    def __init__(self, message: str) -> None:
        """Keep the message as one printable line."""
        super().__init__(one_line(message))


class ModelError(UserError):
    """A model directory that is unreadable, malformed, or of a kind that is not supported."""


class TaskError(UserError):
    """A task that is unknown, malformed, or does not fit the model."""


class OptionError(UserError):
    """A theorem or an option of one that does not exist or is out of range."""


class EnclosureError(UserError):
    """Arithmetic that left float64's range, or a machine whose arithmetic breaks the enclosures."""


class SemanticsError(UserError):
    """A model that a semantics does not cover: its weights, its scale, or what could overflow."""


class MalformedError(UserError):
    """A certificate that cannot be read as one."""


class RejectedError(UserError):
    """A certificate that reads well and does not hold: its tables or its numbers are wrong."""


class KernelDefectError(Exception):
    """Something that the kernel's own reasoning excludes: no bound may come of it."""
