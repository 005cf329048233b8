"""What every recipe asks of torch: a device that can be used, and one thread.

This module imports torch; its importer does so only when a model is really trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def usable_device(name: str) -> torch.device:
    """The device of that name; ValueError, in one line, if torch cannot train on it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r} is not a torch device; use 'cpu' or 'cuda'") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={name!r} is not supported; use 'cpu' or 'cuda'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={name!r}, but torch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'"
        )
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's CPU work on one thread inside the block.

    The order of a threaded sum depends on the number of threads, hence so would the weights; and
    products this small are slower when shared out.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
