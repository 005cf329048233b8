"""``compactproofs gate ...``: the group, and what its commands share."""

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import typer
from jaxtyping import Float64, Int64, Shaped

from ..kernel import (
    MalformedError,
    OptionError,
    Transformer,
    load_transformer,
    read_regular_file,
)
from ..kernel.gate import ReluNetwork, SiteGroup, Sites, last_block, load_relu_network
from ..models import resolve_model

if TYPE_CHECKING:
    from ..gate import Gate

group = typer.Typer(
    help="A gate: admit the inputs that are explained, and refuse all others.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)

GateDirectory = typer.Argument(metavar="DIR", help="The gate's directory.")
OfNetwork = typer.Option(
    "--network", help="Its network: .safetensors of an nn.Sequential, or a model directory."
)
Input = typer.Option("--input", help="A .safetensors file with x [n, d]; labels [n] if known.")
Labelled = typer.Option(help="A .safetensors file with x [n, d] and labels [n].")
Row = typer.Option("--row", help="Which input of the file, counted from 0.")


class Subject(NamedTuple):
    """What a gate is about: a network, and the transformer that it is the last part of, if any."""

    network: ReluNetwork
    transformer: Transformer | None

    def inputs(self, path: Path) -> Float64[np.ndarray, "n d"]:
        """``x`` of a file, NaN and infinity included: the gate refuses those by itself.

        Of a transformer ``x`` is the residual before the last MLP at the last position, or is
        computed from ``tokens`` [n, k].
        """
        arrays = read_arrays(path)
        if "x" not in arrays and "tokens" in arrays and self.transformer is not None:
            return self._residuals(path, arrays["tokens"])
        if "x" not in arrays:
            raise MalformedError(f"{path} has {', '.join(arrays) or 'nothing'}, but no x [n, d]")
        x, d = arrays["x"], self.network.widths[0]
        if x.ndim != 2 or not np.issubdtype(x.dtype, np.floating) or x.shape[1] != d or not len(x):
            raise MalformedError(
                f"{path}: x is {x.dtype} {list(x.shape)}, where the network takes floats [n, {d}]"
            )
        return x.astype(np.float64)

    def labels(self, path: Path, n: int) -> Int64[np.ndarray, " n"] | None:
        """``labels`` of a file, if it has any."""
        labels = read_arrays(path).get("labels")
        if labels is None:
            return None
        x = self.network.outputs
        if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
            raise MalformedError(
                f"{path}: labels are {labels.dtype} {list(labels.shape)}, not one integer for each "
                f"of the {n} inputs"
            )
        if ((labels < 0) | (labels >= x)).any():
            raise MalformedError(f"{path}: a label is none of the network's {x} outputs")
        return labels.astype(np.int64)

    def labelled(self, path: Path) -> tuple[Float64[np.ndarray, "n d"], Int64[np.ndarray, " n"]]:
        """``x`` and ``labels`` of a file."""
        x = self.inputs(path)
        labels = self.labels(path, len(x))
        if labels is None:
            raise MalformedError(f"{path} has no labels [n]: only labelled inputs can be counted")
        return x, labels

    def _residuals(
        self, path: Path, tokens: Shaped[np.ndarray, "..."]
    ) -> Float64[np.ndarray, "n d"]:
        from ..crosscoders import residuals

        net = self.transformer
        if net is None:
            raise OptionError(f"{path} holds tokens, which only a transformer takes")
        v = len(net.W_E)
        fits = tokens.ndim == 2 and tokens.shape[1] == net.n_ctx and len(tokens) > 0
        if not fits or not np.issubdtype(tokens.dtype, np.integer):
            raise MalformedError(
                f"{path}: tokens are {tokens.dtype} {list(tokens.shape)}, where the model takes "
                f"integers [n, {net.n_ctx}]"
            )
        if ((tokens < 0) | (tokens >= v)).any():
            raise MalformedError(f"{path}: a token is none of the model's 0 to {v - 1}")
        site = f"blocks.{len(net.blocks) - 1}.hook_resid_mid"
        return residuals(net, tokens.astype(np.int64), [site])[:, 0]


def load_subject(network: str) -> Subject:
    """Of a .safetensors file or of a model directory."""
    if network.endswith(".safetensors"):
        return Subject(load_relu_network(network), None)
    net = load_transformer(resolve_model(network))
    return Subject(last_block(net), net)


def open_to_write(directory: Path, network: ReluNetwork) -> "Gate":
    """The gate, for adding to it; refuses another network than its own."""
    from ..gate import Gate

    gate = Gate.open(directory, network, write=True)
    if gate.opened.model != network.sha256:
        gate.ledger.release()
        raise OptionError(
            f"{directory} is about the network {gate.opened.model[:12]}, this is "
            f"{network.sha256[:12]}: pass its own as --network"
        )
    return gate


def sites_of(network: ReluNetwork, cut: str, others: str) -> Sites:
    """Groups named ``input``, ``pre2`` or ``post2``, in this order, the cut last if not named."""
    names = [name for name in others.replace(" ", "").split(",") if name]
    names += [] if cut in names else [cut]
    return Sites(tuple(_group(network, name) for name in names), cut, _layer(network, cut))


def _group(network: ReluNetwork, name: str) -> SiteGroup:
    kind = "input" if name == "input" else "pre" if name.startswith("pre") else "post"
    return SiteGroup(name, kind, network.widths[_layer(network, name)])


def _layer(network: ReluNetwork, name: str) -> int:
    match = re.fullmatch(r"input|(?:pre|post)([0-9]{1,4})", name)
    last = len(network.layers)
    layer = int(match[1] or 0) if match else -1
    if not 0 <= layer <= last:
        raise OptionError(
            f"the sites {name!r}: this network has input, and pre1 post1 to pre{last} (what its "
            "linear layers put out, before and after a ReLU)"
        )
    return layer


def site_number(sites: Sites, name: str) -> int:
    """The index of a site written as ``pre1[3]``."""
    match = re.fullmatch(r"(.+)\[([0-9]{1,9})\]", name)
    groups = {one.name: one for one in sites.groups}
    if match is None or match[1] not in groups or int(match[2]) >= groups[match[1]].size:
        known = ", ".join(f"{one.name}[0..{one.size - 1}]" for one in sites.groups)
        raise OptionError(f"site {name!r}: known are {known}")
    return sites.slice(match[1]).start + int(match[2])


def row_of(x: Float64[np.ndarray, "n d"], row: int) -> Float64[np.ndarray, "1 d"]:
    """One input of a file."""
    if not 0 <= row < len(x):
        raise OptionError(f"--row {row}: the file has inputs 0 to {len(x) - 1}")
    return x[row : row + 1]


def read_arrays(path: Path) -> Mapping[str, Shaped[np.ndarray, "..."]]:
    """The tensors of a .safetensors file; raises MalformedError, OSError for no file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = read_regular_file(path)
    try:
        return load(data)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MalformedError(f"{path}: no .safetensors file that numpy reads ({error})") from None


def fraction(name: str, value: str) -> Fraction:
    """An exact number from the command line: ``0.001``, ``1e-5`` or ``1/3``."""
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise OptionError(f"--{name} {value}: pass a number, as 0.001, 1e-5 or 1/1000") from None
