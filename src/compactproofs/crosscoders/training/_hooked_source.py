"""Activations of any torch modules, by the names of their sub-modules.

Notation: s inputs, p positions of each, n rows, L sites, d width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import torch
from jaxtyping import Float32, Int64

from .._config import Site
from .._errors import CrosscoderError
from ._sources import ActivationSource, Rows, require_inside

_AT_ONCE = 256
_CACHED_NUMBERS = 1 << 28


@final
class HookedSource(ActivationSource):
    """What named sub-modules of torch modules put out, one row a token position.

    The axes of an output between the first and the last, such as the sequence, become rows: an
    output of [s, p, d] gives p rows an input, one of [s, d] gives one. Of an output that is a tuple
    the first element is taken. Several modules are for comparing models; a site's ``model_index``
    says which one it is of.
    """

    def __init__(
        self,
        modules: torch.nn.Module | Sequence[torch.nn.Module],
        inputs: torch.Tensor,
        hooks: Mapping[Site, str],
        *,
        output_hooks: Mapping[Site, str] | None = None,
        labels: Int64[torch.Tensor, " s"] | None = None,
        positions: str = "all",
        model_sha256: str = "",
    ) -> None:
        """Run ``modules`` on rows of `inputs` [s, ...] and record the sub-modules named in `hooks`.

        The modules are put into evaluation mode and used where they are. Activations are computed
        once and kept if they are at most 1 GiB, and else at every reading.
        positions: ``last`` keeps only the last position of each input.
        Raises CrosscoderError for a name that is no sub-module, or outputs that do not match.
        """
        self._modules: Final = [modules] if isinstance(modules, torch.nn.Module) else list(modules)
        self.sites = tuple(hooks)
        self.output_sites = tuple(output_hooks or ())
        self.positions = positions
        self.model_sha256 = model_sha256
        self._hooks: Final = [*hooks.items(), *(output_hooks or {}).items()]
        self._inputs: Final = inputs
        self._labels: Final = labels
        if positions not in ("last", "all"):
            raise CrosscoderError(f"positions = {positions!r} is not one of last, all")
        if len(inputs) == 0 or not self.sites:
            raise CrosscoderError(
                f"{len(inputs)} inputs and {len(self.sites)} hooks: give at least one of each"
            )
        if labels is not None and len(labels) != len(inputs):
            raise CrosscoderError(f"{len(labels)} labels for {len(inputs)} inputs; give one each")
        for module in self._modules:
            module.eval()
        _, self._all_positions, _, self.d = self._stacked(np.zeros(1, np.int64)).shape
        self._per_input: Final = 1 if positions == "last" else self._all_positions
        numbers = len(self) * len(self._hooks) * self.d
        self._kept = self._all() if numbers <= _CACHED_NUMBERS else None

    def __len__(self) -> int:
        """Rows: the inputs, times the positions of each that are read."""
        return len(self._inputs) * self._per_input

    def rows(self, indices: Int64[np.ndarray, " n"]) -> Rows:
        """The rows of these numbers."""
        require_inside(indices, len(self))
        number, place = indices // self._per_input, indices % self._per_input
        if self._kept is not None:
            values = self._kept[torch.tensor(indices).to(self._kept.device)]
        else:
            several, where = np.unique(number, return_inverse=True)
            computed = torch.cat(
                [
                    self._computed(several[begin : begin + _AT_ONCE])
                    for begin in range(0, len(several), _AT_ONCE)
                ]
            )
            values = computed[torch.from_numpy(where), torch.from_numpy(place)]
        device, n_sites = values.device, len(self.sites)
        chosen = torch.tensor(number).to(self._inputs.device)
        tokens = self._inputs[chosen] if _are_tokens(self._inputs) else chosen[:, None][:, :0]
        label = torch.full_like(chosen, -1) if self._labels is None else self._labels[chosen.cpu()]
        first = self._all_positions - self._per_input
        return Rows(
            activations=values[:, :n_sites],
            targets=values[:, n_sites:] if self.output_sites else values[:, :n_sites],
            token_ids=tokens.to(device, torch.int64),
            position=torch.from_numpy(place + first).to(device),
            label=label.to(device, torch.int64),
        )

    def labels(self) -> Int64[np.ndarray, " N"] | None:
        """The label of every row, if they were given."""
        if self._labels is None:
            return None
        return np.repeat(self._labels.cpu().numpy().astype(np.int64), self._per_input)

    def stated(self) -> dict[str, Any]:
        """Rows, positions, and the sub-modules by site."""
        return {
            "kind": "hooks",
            "model_sha256": self.model_sha256,
            "rows": len(self),
            "positions": self.positions,
            "sites": [site.name for site, _ in self._hooks],
            "modules": [name for _, name in self._hooks],
        }

    def _all(self) -> Float32[torch.Tensor, "N L d"]:
        numbers = np.arange(len(self._inputs))
        return torch.cat(
            [
                self._computed(numbers[begin : begin + _AT_ONCE]).flatten(0, 1)
                for begin in range(0, len(numbers), _AT_ONCE)
            ]
        )

    def _computed(self, numbers: Int64[np.ndarray, " s"]) -> Float32[torch.Tensor, "s p L d"]:
        """Of some inputs, at the positions of each that are read."""
        return self._stacked(numbers)[:, -self._per_input :]

    def _stacked(self, numbers: Int64[np.ndarray, " s"]) -> Float32[torch.Tensor, "s p L d"]:
        """Of some inputs, at all positions."""
        found: dict[int, torch.Tensor] = {}

        def keep(place: int) -> Callable[..., None]:
            def hook(module: torch.nn.Module, given: Any, output: Any) -> None:
                del module, given
                found[place] = output[0] if isinstance(output, tuple) else output

            return hook

        handles = []
        try:
            for place, (site, name) in enumerate(self._hooks):
                handles.append(self._submodule(site, name).register_forward_hook(keep(place)))
            with torch.no_grad():
                for module in self._modules:
                    module(self._inputs[torch.tensor(numbers).to(self._inputs.device)])
        finally:
            for handle in handles:
                handle.remove()
        flat = [self._flat(place, found, len(numbers)) for place in range(len(self._hooks))]
        if len({values.shape for values in flat}) != 1:
            shapes = ", ".join(
                f"{name} {list(values.shape[1:])}"
                for (_, name), values in zip(self._hooks, flat, strict=True)
            )
            raise CrosscoderError(f"the outputs differ in positions or width: {shapes}")
        return torch.stack(flat, dim=2)

    def _flat(
        self, place: int, found: Mapping[int, torch.Tensor], n: int
    ) -> Float32[torch.Tensor, "s p d"]:
        name = self._hooks[place][1]
        output = found.get(place)
        if output is None:
            raise CrosscoderError(f"the sub-module {name!r} did not run on these inputs")
        if not isinstance(output, torch.Tensor) or output.ndim < 2 or len(output) != n:
            what = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise CrosscoderError(
                f"the sub-module {name!r} gives {what}, not a tensor [{n}, .., d]"
            )
        # Reshaped whatever its strides are: an output may be a transposed view.
        return output.reshape(n, -1, output.shape[-1]).to(torch.float32)

    def _submodule(self, site: Site, name: str) -> torch.nn.Module:
        if site.model_index >= len(self._modules):
            raise CrosscoderError(
                f"site {site.name!r} is of model {site.model_index}, but {len(self._modules)} "
                "are given"
            )
        try:
            return self._modules[site.model_index].get_submodule(name)
        except AttributeError:
            known = [one for one, _ in self._modules[site.model_index].named_modules() if one]
            raise CrosscoderError(
                f"{name!r} is not a sub-module; there are {', '.join(known[:20])}"
                + (", ..." if len(known) > 20 else "")
            ) from None


def _are_tokens(inputs: torch.Tensor) -> bool:
    return inputs.ndim == 2 and not inputs.dtype.is_floating_point
