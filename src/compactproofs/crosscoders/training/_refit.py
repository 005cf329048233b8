"""Codes chosen for theorem B rather than for reconstruction: a witness may hold any.

Notation: N sequences, k features of each, d width.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from ...kernel import Task, Tick, Transformer, no_tick, sequences
from ...training._torch import one_thread
from .._errors import CrosscoderError
from ..sparse_codes import SparseCodes, exact_residuals
from ._interaction import Decoded, Readout, Sparse, certified_margins

_AT_ONCE = 4096
_MARGIN = 0.05
_RATE = 0.05


def certified_codes(
    net: Transformer,
    task: Task,
    codes: SparseCodes,
    *,
    steps: int = 200,
    tick: Tick = no_tick,
) -> SparseCodes:
    """The same supports with the values that prove more: a sequence's bound never gets worse.

    Values of the sequences that theorem B (static tables, no cells) does not certify by 0.05
    logits are moved by Adam up the worst rival's certified margin, in float64, and the best ones
    are kept. Estimates, no proof: the kernel decides.

    codes: of all sequences of the task at the residual before the last MLP. tick: of the steps.
    Raises CrosscoderError for codes of another task or width, or a net without a last MLP.
    Cost: ``steps`` evaluations of the theorem on the sequences that are not certified.
    """
    if codes.decoder.shape[1] != net.d_model or len(codes.feature) != task.total:
        raise CrosscoderError(
            f"codes of {len(codes.feature)} sequences in {codes.decoder.shape[1]} dimensions; "
            f"{task.name} has {task.total} and the model {net.d_model}"
        )
    problem = _Problem(net, task, codes)
    with one_thread():
        margin = problem.worst()
        left = np.flatnonzero((margin <= _MARGIN).numpy())
        value = codes.value.copy()
        parts = range(0, len(left), _AT_ONCE)
        for number, begin in enumerate(parts):
            chosen = left[begin : begin + _AT_ONCE]
            value[chosen] = problem.climbed(chosen, steps)
            tick(number + 1, len(parts))
    return replace(codes, feature=np.where(value > 0, codes.feature, -1), value=value)


class _Problem:
    """The codes of a task, and what their certified margins need."""

    def __init__(self, net: Transformer, task: Task, codes: SparseCodes) -> None:
        self.readout = Readout.of(net, dtype=torch.float64)
        self.decoded = Decoded(torch.tensor(codes.decoder), torch.tensor(codes.bias))
        self.feature = torch.tensor(np.maximum(codes.feature, 0))
        self.used: Bool[torch.Tensor, "N k"] = torch.tensor(codes.feature >= 0)
        self.value = torch.tensor(codes.value)
        self.residual = torch.tensor(exact_residuals(net, task))
        self.label = torch.tensor(task.labels(sequences(task, 0, task.total)), dtype=torch.int64)

    def worst(self) -> Float64[torch.Tensor, " N"]:
        """The smallest certified margin of every sequence."""
        every = torch.arange(len(self.label))
        with torch.no_grad():
            return torch.cat(
                [self._worst(part, self.value[part]) for part in every.split(_AT_ONCE)]
            )

    def climbed(self, chosen: Int64[np.ndarray, " n"], steps: int) -> Float64[np.ndarray, "n k"]:
        """The best values found for some sequences."""
        part = torch.tensor(chosen)
        used = self.used[part]
        value = self.value[part].clone().requires_grad_()
        best, best_margin = self.value[part].clone(), torch.full((len(part),), -torch.inf)
        best_margin = best_margin.double()
        optimiser = torch.optim.Adam([value], lr=_RATE)
        for _ in range(steps):
            now = torch.relu(value) * used
            margin = self._worst(part, now)
            better = margin.detach() > best_margin
            best[better] = now.detach()[better]
            best_margin = torch.where(better, margin.detach(), best_margin)
            optimiser.zero_grad()
            # Beyond the margin asked for nothing is gained: the others go on alone.
            (-torch.clamp(margin, max=2 * _MARGIN)).sum().backward()
            optimiser.step()
        return best.numpy()

    def _worst(
        self, part: Int64[torch.Tensor, " n"], value: Float64[torch.Tensor, "n k"]
    ) -> Float64[torch.Tensor, " n"]:
        certified = certified_margins(
            self.readout,
            self.decoded,
            Sparse(self.feature[part], value),
            self.residual[part],
            self.label[part],
        )
        return certified.margin.amin(dim=1)
