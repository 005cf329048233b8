"""``python -m compactproofs``: the same as the command."""

from .cli import main

main()
