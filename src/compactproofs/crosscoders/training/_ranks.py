"""Several processes that train one crosscoder: each has its part of the joint batch.

Everything here is exact for one process, and does nothing. With several, started by torchrun or by
hand, the caller has called ``torch.distributed.init_process_group`` before; the joint batch is
dealt out like cards, so that row i belongs to process i mod W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.distributed
from jaxtyping import Float

from .._errors import CrosscoderError


@final
@dataclass(frozen=True)
class Ranks:
    """Number of this process, from 0, and how many there are."""

    rank: int = 0
    world: int = 1

    def part(self, total: int) -> slice:
        """Which of the rows 0 .. total - 1 this process has."""
        return slice(self.rank, total, self.world)

    def require_divides(self, name: str, value: int) -> None:
        """Raise CrosscoderError unless every process gets equally many."""
        if value % self.world:
            raise CrosscoderError(
                f"{name} = {value} cannot be dealt out to {self.world} processes; "
                f"take a multiple of {self.world}"
            )

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over processes, outside the graph of gradients."""
        if self.world == 1:
            return value.detach()
        summed = value.detach().clone()
        torch.distributed.all_reduce(summed)
        return summed

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over processes, outside the graph of gradients."""
        return self.total(value) / self.world

    def largest(self, value: torch.Tensor) -> torch.Tensor:
        """The entrywise maximum over processes."""
        if self.world == 1:
            return value
        most = value.clone()
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        return most

    def gathered(self, value: torch.Tensor) -> torch.Tensor:
        """Those of all processes in the order of the joint batch; equal shapes everywhere."""
        if self.world == 1:
            return value.detach()
        parts = [torch.empty_like(value) for _ in range(self.world)]
        torch.distributed.all_gather(parts, value.detach().contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def average_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if self.world == 1:
            return
        gradients = [one.grad for one in parameters if one.grad is not None]
        joint: Float[torch.Tensor, " all"] = torch.cat([one.flatten() for one in gradients])
        torch.distributed.all_reduce(joint)
        joint /= self.world
        for gradient, part in zip(
            gradients, joint.split([one.numel() for one in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            torch.distributed.barrier()


def present_ranks() -> Ranks:
    """Those of the process group that is initialised, or one process."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return Ranks()
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
