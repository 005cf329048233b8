"""The witness of a theorem: its own tensors, found by the search that belongs to it."""

from typing import Any

import numpy as np

from ..kernel import Model, OptionError, Task, Tick, Transformer, no_tick


def find_witness(
    model: Model | Transformer, task: Task, theorem: str, options: Any, tick: Tick = no_tick
) -> dict[str, np.ndarray]:
    """The tensors by name; empty for a theorem that needs none.

    options: the options object of the theorem. Cost: that of the search, which is not counted as
    length of the proof.
    """
    if theorem == "subcubic":
        if isinstance(model, Transformer):
            raise OptionError("the theorem subcubic is about one layer of attention with one head")
        from .subcubic import find_subcubic_witness

        return find_subcubic_witness(model, task, options, tick)._asdict()
    if theorem == "crosscoder-d":
        from .cells import find_cells

        net = model.as_transformer() if isinstance(model, Model) else model
        return find_cells(net, task, options, tick)
    if theorem == "cells":
        from .cells_through_depth import find_cells_through_depth

        net = model.as_transformer() if isinstance(model, Model) else model
        return find_cells_through_depth(net, task, options, tick)
    return {}
