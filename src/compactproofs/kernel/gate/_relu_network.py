"""ReLU networks as layers: the part of a model that the gate reasons about, the exact numbers.

Row vectors. With ``x = z_0``,

    z_{i+1} = act_i(z_i) W_i + b_i,      logits = z_L (+ x skip),

where ``act_i`` is the ReLU or nothing.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float64

from .._enclosure import Ball
from .._errors import ModelError
from .._files import read_regular_file
from .._frozen import frozen
from .._network import project
from .._safetensors import DamagedError, decode_floats, read_tensors
from .._transformer import Transformer


def _exact(name: str, values: object, dimensions: int) -> Float64[np.ndarray, "..."]:
    """A copy that nobody can change, or a refusal."""
    array = np.asarray(values)
    if array.dtype != np.float64 or array.ndim != dimensions or 0 in array.shape:
        raise ModelError(
            f"{name} is {array.dtype} {array.shape}: pass a float64 array of {dimensions} "
            "dimensions, none of them empty"
        )
    if not np.isfinite(array).all():
        raise ModelError(f"{name} holds NaN or infinity: a network needs finite weights")
    return frozen(array)


@final
@dataclass(frozen=True, eq=False)
class ReluLayer:
    """``z -> act(z) W + b`` with ``act`` the ReLU if ``relu``, else nothing."""

    W: Float64[np.ndarray, "a b"]
    b: Float64[np.ndarray, " b"]
    relu: bool

    def __post_init__(self) -> None:
        """Keep copies that nobody can change; raises ModelError."""
        object.__setattr__(self, "W", _exact("W", self.W, 2))
        object.__setattr__(self, "b", _exact("b", self.b, 1))
        if self.W.shape[1] != len(self.b) or type(self.relu) is not bool:
            raise ModelError(
                f"a layer has W {self.W.shape}, b {self.b.shape} and relu={self.relu!r}: W needs "
                "a column for each entry of b, and relu is True or False"
            )


@final
@dataclass(frozen=True, eq=False)
class ReluNetwork:
    """Layers in a row, with at least two logits; see the top of this file."""

    layers: tuple[ReluLayer, ...]
    skip: Float64[np.ndarray, "a x"] | None = None
    """What the input adds to the logits directly."""

    def __post_init__(self) -> None:
        """The layers must fit together; raises ModelError."""
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers or any(type(layer) is not ReluLayer for layer in self.layers):
            raise ModelError("a ReLU network needs at least one ReluLayer")
        for number, (before, after) in enumerate(
            zip(self.layers[:-1], self.layers[1:], strict=True), 1
        ):
            if before.W.shape[1] != after.W.shape[0]:
                raise ModelError(
                    f"layer {number} takes {after.W.shape[0]} numbers, but the one before gives "
                    f"{before.W.shape[1]}"
                )
        if self.outputs < 2:
            raise ModelError("a network with one output has no rival to its answer: pass 2 or more")
        if self.skip is not None:
            object.__setattr__(self, "skip", _exact("skip", self.skip, 2))
            if self.skip.shape != (self.widths[0], self.outputs):
                raise ModelError(
                    f"skip has shape {self.skip.shape}, not {(self.widths[0], self.outputs)}"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Sizes of ``z_0 .. z_L``."""
        return (len(self.layers[0].W), *(len(layer.b) for layer in self.layers))

    @property
    def outputs(self) -> int:
        """Logits, x."""
        return len(self.layers[-1].b)

    @cached_property
    def sha256(self) -> str:
        """Digest (hex) of the function: which layers have a ReLU, and the exact values.

        Cost: reads every weight, once.
        """
        described = {"relu": [layer.relu for layer in self.layers], "widths": self.widths}
        described["skip"] = self.skip is not None
        text = json.dumps(described, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(b"compactproofs relu network 1\n" + text.encode())
        for values in (v for layer in self.layers for v in (layer.W, layer.b)):
            digest.update(_canonical(values))
        if self.skip is not None:
            digest.update(_canonical(self.skip))
        return digest.hexdigest()

    def forward(self, x: Ball, layer: int = 0, after_relu: bool = False) -> list[Ball]:
        """Enclosures of ``z_layer .. z_{L-1}`` and the logits, of ``n`` points: ``L - layer + 1``.

        x: ``[n a]``, numbers of ``z_layer``, or of ``act(z_layer)`` if ``after_relu``; the first
        ball of the answer is ``x`` itself. Raises ModelError if the numbers do not determine the
        logits: a skip connection reads the input. Cost: ``n`` forward passes in enclosures.
        """
        if not 0 <= layer < len(self.layers):
            raise ModelError(f"layer {layer} of a network of {len(self.layers)}: there is none")
        if self.skip is not None and (layer or (after_relu and self.layers[0].relu)):
            raise ModelError(
                "the logits of a network with a skip connection depend on its input: start there"
            )
        seen = [x]
        for number in range(layer, len(self.layers)):
            here, active = self.layers[number], seen[-1]
            if here.relu and not (after_relu and number == layer):
                active = active.relu()
            seen.append(project(active, here.W, here.b))
        if self.skip is not None:
            seen[-1] = seen[-1] + x @ Ball.exact(self.skip, x.ledger)
        return seen


def _canonical(values: Float64[np.ndarray, "..."]) -> bytes:
    # -0.0 is the number 0.0.
    return np.where(values == 0, 0.0, values).astype("<f8").tobytes()


_NAME = re.compile(r"(0|[1-9][0-9]{0,3})\.(weight|bias)")


def load_relu_network(path: Path | str) -> ReluNetwork:
    """The network of a ``.safetensors`` file of ``torch.nn.Sequential(Linear, ReLU, Linear, ...)``.

    Tensors ``0.weight [out in]``, ``0.bias``, ``2.weight``, ...: a ReLU between each two, none at
    the ends; an absent bias is 0. Raises ModelError for anything else, OSError for no file.
    """
    try:
        stored, _ = read_tensors(read_regular_file(Path(path)))
        tensors = {name: decode_floats(raw) for name, raw in stored.items()}
    except DamagedError as error:
        raise ModelError(f"{path}: {error}") from None
    parts: dict[int, dict[str, Float64[np.ndarray, "..."]]] = {}
    for name, values in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ModelError(
                f"{path}: unexpected tensor {name!r}: save the state of an nn.Sequential of "
                "Linear and ReLU (0.weight, 0.bias, 2.weight, ...)"
            )
        parts.setdefault(int(match[1]), {})[match[2]] = values
    if not parts or sorted(parts) != list(range(0, 2 * len(parts), 2)):
        raise ModelError(
            f"{path}: linear layers {sorted(parts)}, not 0, 2, 4, ...: Linear and ReLU must "
            "alternate, with Linear at both ends"
        )
    layers = []
    for number in sorted(parts):
        if "weight" not in parts[number]:
            raise ModelError(f"{path}: the tensor '{number}.weight' is missing")
        weight = parts[number]["weight"]
        if weight.ndim != 2:
            raise ModelError(f"{path}: '{number}.weight' has shape {weight.shape}, not [out, in]")
        bias = parts[number].get("bias", np.zeros(len(weight)))
        if bias.shape != (len(weight),):
            raise ModelError(
                f"{path}: '{number}.bias' has shape {bias.shape}, but there are {len(weight)} rows "
                "of weights"
            )
        try:
            layers.append(ReluLayer(weight.T, bias, relu=number > 0))
        except ModelError as error:
            raise ModelError(f"{path}: layer {number}: {error}") from None
    try:
        return ReluNetwork(tuple(layers))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def last_block(net: Transformer) -> ReluNetwork:
    """What a transformer makes of the residual ``mid`` of its last position: logits, exactly.

    ``logits = (mid + relu(mid W_in + b_in) W_out + b_out) W_U + b_U``: layers ``W_in``, ``W_out``
    behind a ReLU, ``W_U``, and ``W_U`` once more as the skip connection; ``W_U`` alone if the
    block has no neurons (its ``b_out`` is 0 then).
    """
    block = net.blocks[-1]
    if not block.d_mlp:
        return ReluNetwork((ReluLayer(net.W_U, net.b_U, relu=False),))
    return ReluNetwork(
        (
            ReluLayer(block.W_in, block.b_in, relu=False),
            ReluLayer(block.W_out, block.b_out, relu=True),
            ReluLayer(net.W_U, net.b_U, relu=False),
        ),
        skip=net.W_U,
    )
