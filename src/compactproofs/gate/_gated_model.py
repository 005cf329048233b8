"""A torch model behind a gate: its output is handed out only on inputs that the gate admits.

This module imports torch; its importer does so only where a torch model is at hand. Not part of
the trusted half: it reads activations off the model by hooks, and the kernel decides on them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from jaxtyping import Float64

from ..kernel import UserError
from ..kernel.gate import ReluLayer, ReluNetwork, SiteGroup, Verdict
from ._forward import Activations
from ._gate import Gate

_APART: Final = 1e-3
"""Of a sanity check, far above what rounding does; no admission depends on it."""


class GatedModelError(UserError):
    """A torch model that is not what the gate is about, or whose sites cannot be read."""


@final
@dataclass(frozen=True, eq=False)
class Admitted:
    """The model's output on an admitted input, and what the admission rests on."""

    output: torch.Tensor
    """``[x]``, the logits."""
    verdict: Verdict


@final
@dataclass(frozen=True, eq=False)
class Refused:
    """Why an input is refused; there is no output to be used by mistake."""

    verdict: Verdict


Outcome = Admitted | Refused


@final
class GatedModel:
    """``model`` behind ``gate``: one ``Admitted`` or ``Refused`` for each input.

    Law: an output is handed out only with a verdict of ``gate`` on the activations and the logits
    of the very run that computed it, on weights whose digest is the gate's network's.
    """

    def __init__(
        self,
        gate: Gate,
        model: torch.nn.Module,
        captures: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse a model of other weights.

        model: an ``nn.Sequential`` of Linear and ReLU, or any module whose tensors have
        TransformerLens names (``blocks.N.mlp.W_in``, ..., ``unembed.W_U``), of which the last
        MLP and the unembedding are compared. It is put into evaluation mode and used where it is.
        captures: which sub-module's output is each group of sites (``{"pre1": "0"}``), or its
        input after ``in:``; before the cut, what is named wrongly is not noticed. By default
        those of an ``nn.Sequential``, and ``blocks.N.hook_resid_mid`` for a transformer's cut. Of
        a sequence of positions the last counts.

        Raises GatedModelError for other weights, numbers that float32 does not cover, or sites
        without a sub-module.
        """
        self.gate: Final = gate
        self.model: Final = model.eval()
        given = dict(captures or {})
        self._captures: Final = {
            group.name: self._capture(group, given.pop(group.name, None))
            for group in gate.sites.groups
        }
        if given:
            raise GatedModelError(
                f"captures name {', '.join(given)}, but the gate's groups of sites are "
                f"{', '.join(self._captures)}"
            )
        self._verified: tuple[Any, ...] = ()
        self._require_own_weights()

    def __call__(self, x: torch.Tensor) -> list[Outcome]:
        """Run ``x`` ``[n ...]`` and judge each input by itself; raises and costs as ``run``."""
        output, seen = self.run(x)
        return [
            Admitted(row, verdict) if verdict.admitted else Refused(verdict)
            for row, verdict in zip(output, self.gate.admit_batch(seen), strict=True)
        ]

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, Activations]:
        """The model's logits ``[n x]`` and what the gate sees of the run, unjudged.

        For building a gate: ``gate.record(gated.run(x)[1], labels, signer=...)``. Raises
        GatedModelError if the weights have been written to and are no longer the gate's, or if
        the logits are not what the network makes of the cut. Cost: a forward pass, twice from the
        cut on.
        """
        self._require_own_weights()
        if torch.is_autocast_enabled(x.device.type):
            raise GatedModelError(
                "autocast is on, and float32 certificates do not cover it: call outside of it"
            )
        found: dict[str, torch.Tensor] = {}
        handles = []
        try:
            for name, (module, of_input) in self._captures.items():
                handles.append(module.register_forward_hook(_keep(found, name, of_input)))
            with torch.no_grad():
                output = _last_position(self.model(x))
        finally:
            for handle in handles:
                handle.remove()
        h = np.concatenate(
            [self._values(found, group, len(output)) for group in self.gate.sites.groups], axis=1
        )
        outputs = _float64(output)
        self._require_own_suffix(h, outputs)
        return output, Activations(h, outputs)

    def _require_own_suffix(
        self, h: Float64[np.ndarray, "n s"], outputs: Float64[np.ndarray, "n x"]
    ) -> None:
        """A LayerNorm without weights, or a capture at another place, has no digest."""
        network, sites = self.gate.network, self.gate.sites
        cut = z = h[:, sites.cut_slice]
        with np.errstate(over="ignore", invalid="ignore"):
            for number in range(sites.layer, len(network.layers)):
                layer = network.layers[number]
                z = np.maximum(z, 0) if layer.relu else z
                z = z @ layer.W + layer.b
            z = z if network.skip is None else z + cut @ network.skip
            apart = np.abs(z - outputs) > _APART * (
                1 + np.abs(z).max(initial=0.0, where=z < np.inf)
            )
        if z.shape != outputs.shape or apart.any():
            raise GatedModelError(
                f"the logits are not what the network makes of the sites {sites.cut}: the model "
                "does something else after the cut, or the cut is captured at another place"
            )

    def _values(
        self, found: Mapping[str, torch.Tensor], group: SiteGroup, n: int
    ) -> Float64[np.ndarray, "n g"]:
        if group.name not in found:
            raise GatedModelError(
                f"the sites {group.name} were not computed in this run: capture a sub-module that "
                "every run calls"
            )
        values = _float64(_last_position(found[group.name]))
        if values.shape != (n, group.size):
            raise GatedModelError(
                f"the sub-module of the sites {group.name} gives {list(values.shape)} for {n} "
                f"inputs, not [{n}, {group.size}]"
            )
        return values

    def _capture(self, group: SiteGroup, named: str | None) -> tuple[torch.nn.Module, bool]:
        name = self._default(group) if named is None else named
        of_input = name.startswith("in:")
        try:
            return self.model.get_submodule(name.removeprefix("in:")), of_input
        except AttributeError:
            raise GatedModelError(
                f"the sites {group.name} are captured at {name!r}, which is no sub-module: pass "
                f"captures={{{group.name!r}: name}} with one of the model's"
            ) from None

    def _default(self, group: SiteGroup) -> str:
        """Where a group of sites is found if nobody says it; the rules of ``activations``."""
        is_cut = group.name == self.gate.sites.cut
        if not isinstance(self.model, torch.nn.Sequential):
            if is_cut:
                return f"blocks.{_last_layer(self.model)}.hook_resid_mid"
            raise GatedModelError(f"the sites {group.name} need captures={{{group.name!r}: name}}")
        digits = re.search(r"([0-9]+)$", group.name)
        layer = self.gate.sites.layer if is_cut else int(digits[1]) if digits else 0
        if group.kind == "input" or (layer == 0 and group.kind == "pre"):
            return "in:0"
        # z_1 is what the first linear module puts out; the ReLU comes after it.
        return str(2 * layer - 2 if group.kind == "pre" else 2 * layer - 1)

    def _require_own_weights(self) -> None:
        """Compare digests, if any tensor was written to since it was done last."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        now = tuple((id(t), t.data_ptr(), t._version) for t in tensors)
        if now != self._verified:
            _require_covered(tensors)
            digest = network_of(self.model).sha256
            if digest != self.gate.network.sha256:
                raise GatedModelError(
                    f"the model's weights have digest {digest[:12]}, the gate is about "
                    f"{self.gate.network.sha256[:12]}: load the weights that the gate was built on"
                )
            self._verified = now
        if any(t.is_cuda for t in tensors) and torch.get_float32_matmul_precision() != "highest":
            raise GatedModelError(
                "matrix products on this device may round below float32: "
                "torch.set_float32_matmul_precision('highest')"
            )


def network_of(model: torch.nn.Module) -> ReluNetwork:
    """The kernel's network of a torch model: all of an ``nn.Sequential``, or a last MLP.

    Raises GatedModelError for a model that is neither, ModelError for shapes that do not fit.
    """
    if isinstance(model, torch.nn.Sequential):
        return _of_sequential(model)
    state = {name: values.detach().cpu() for name, values in model.state_dict().items()}
    prefix = f"blocks.{_last_layer(model)}.mlp."

    def exact(name: str, default: tuple[int, ...] | None = None) -> Float64[np.ndarray, "..."]:
        if name in state:
            return _float64(state[name])
        if default is None:
            raise GatedModelError(
                f"the model is no nn.Sequential and has no tensor {name!r}: pass one with "
                "TransformerLens names"
            )
        return np.zeros(default)

    W_U = exact("unembed.W_U")
    b_U = exact("unembed.b_U", (W_U.shape[1],))
    if f"{prefix}W_in" not in state:
        return ReluNetwork((ReluLayer(W_U, b_U, relu=False),))
    W_in, W_out = exact(f"{prefix}W_in"), exact(f"{prefix}W_out")
    return ReluNetwork(
        (
            ReluLayer(W_in, exact(f"{prefix}b_in", (W_in.shape[1],)), relu=False),
            ReluLayer(W_out, exact(f"{prefix}b_out", (W_out.shape[1],)), relu=True),
            ReluLayer(W_U, b_U, relu=False),
        ),
        skip=W_U,
    )


def _of_sequential(model: torch.nn.Sequential) -> ReluNetwork:
    layers = []
    for number, module in enumerate(model):
        wanted = torch.nn.ReLU if number % 2 else torch.nn.Linear
        if type(module) is not wanted:
            raise GatedModelError(
                f"module {number} is a {type(module).__name__}: Linear and ReLU must alternate, "
                "with Linear at both ends"
            )
        if isinstance(module, torch.nn.Linear):
            weight = _float64(module.weight).T
            bias = np.zeros(weight.shape[1]) if module.bias is None else _float64(module.bias)
            layers.append(ReluLayer(weight, bias, relu=number > 0))
    if len(model) % 2 == 0:
        raise GatedModelError("the last module is no Linear: the logits must be its output")
    return ReluNetwork(tuple(layers))


def _last_layer(model: torch.nn.Module) -> int:
    found = [re.match(r"blocks\.([0-9]+)\.", name) for name in model.state_dict()]
    return max((int(match[1]) for match in found if match), default=0)


def _require_covered(tensors: list[torch.Tensor]) -> None:
    """Certificates cover evaluations in float32, and in float64, which rounds less."""
    for values in tensors:
        if values.is_floating_point() and values.dtype not in (torch.float32, torch.float64):
            raise GatedModelError(
                f"the model computes in {values.dtype}, which float32 certificates do not cover: "
                "convert it to float32 before the gate is built"
            )


def _keep(found: dict[str, torch.Tensor], name: str, of_input: bool) -> Callable[..., None]:
    def hook(module: torch.nn.Module, given: Any, output: Any) -> None:
        del module
        values = given if of_input else output
        values = values[0] if isinstance(values, tuple) else values
        if name in found:
            raise GatedModelError(f"the sub-module of the sites {name} ran twice in one run")
        # What is computed later must not write over it.
        found[name] = values.detach().clone()

    return hook


def _last_position(values: torch.Tensor) -> torch.Tensor:
    """``[n p d]`` at its last position; ``[n d]`` as it is."""
    return values[:, -1] if values.ndim == 3 else values


def _float64(values: torch.Tensor) -> Float64[np.ndarray, "..."]:
    return values.detach().cpu().to(torch.float64).numpy()
