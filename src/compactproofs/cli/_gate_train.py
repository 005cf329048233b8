"""``compactproofs gate train-digits``: a small network and its data, to try a gate on."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ..kernel import OptionError, UserError
from . import _output

_NETWORK = "network.safetensors"
_PARTS = ("train", "check", "test")


def train_digits(
    out: Annotated[Path, typer.Option(help="The directory to write.")],
    seed: Annotated[int, typer.Option(help="Of the division of the images and of training.")] = 0,
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers.")] = "32,32",
    epochs: Annotated[int, typer.Option(help="Passes over the 900 training images.")] = 300,
    force: Annotated[bool, _output.Force] = False,
    json: Annotated[bool, _output.Json] = False,
) -> None:
    """Train a ReLU network on scikit-learn's digits (needs the extras 'train' and 'gate').

    Writes network.safetensors, and train, check and test.safetensors: images x and their labels.
    """
    from safetensors.numpy import save

    from ..kernel.gate import load_relu_network
    from ..models._directory import check_directory, replacing
    from ..training._digits import MlpSettings, digits_splits, train_mlp

    names = (_NETWORK, *(f"{part}.safetensors" for part in _PARTS))
    check_directory(out, "a network and its digits", names, _NETWORK, force=force)
    try:
        widths = tuple(int(width) for width in hidden.split(","))
    except ValueError:
        raise OptionError(f"--hidden {hidden}: pass widths, as 32,32") from None
    settings = MlpSettings(hidden=widths, epochs=epochs, seed=seed)
    try:
        splits = digits_splits(seed)
        with _output.progress("training"):
            network = train_mlp(splits.train.x, splits.train.y, settings)
    except ImportError as error:
        raise UserError(str(error)) from None
    with replacing(out.absolute()) as fresh:
        tensors = {}
        for number, layer in enumerate(network.layers):
            tensors[f"{2 * number}.weight"] = layer.W.T.astype(np.float32, order="C")
            tensors[f"{2 * number}.bias"] = layer.b.astype(np.float32)
        (fresh / _NETWORK).write_bytes(save(tensors))
        for part, images in zip(_PARTS, splits, strict=True):
            x = images.x.astype(np.float32)
            (fresh / f"{part}.safetensors").write_bytes(save({"x": x, "labels": images.y}))
    from ..gate._forward import activations
    from ._gate import sites_of

    stored = load_relu_network(out / _NETWORK)
    answers = activations(stored, sites_of(stored, "input", ""), splits.test.x).outputs
    right = int((answers.argmax(axis=1) == splits.test.y).sum())
    if json:
        _output.print_json(
            {
                "directory": str(out),
                "network": stored.sha256,
                "widths": list(stored.widths),
                "test_right": right,
                "test": len(splits.test.y),
            }
        )
    else:
        _output.print_lines(
            {
                "network": f"{out / _NETWORK} (sha256 {stored.sha256})",
                "widths": ", ".join(map(str, stored.widths)),
                "data": ", ".join(
                    f"{part} {len(images.y)}" for part, images in zip(_PARTS, splits, strict=True)
                ),
                "accuracy": f"{right} of {len(splits.test.y)} of test: an estimate",
            }
        )
