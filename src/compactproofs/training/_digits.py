"""The digits of scikit-learn and small ReLU networks that read them: the gate's test bench.

1,797 images of 64 pixels, divided by a permutation that the seed fixes: 900 to train on, 450 to
check and calibrate with, 447 to report on. Nothing here imports torch or scikit-learn before it is
asked for data or for a model.
"""

import importlib
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel import UserError
from ..kernel.gate import ReluLayer, ReluNetwork

_TRAIN: Final = 900
_CHECK: Final = 450


class TrainingError(UserError):
    """Data or settings that no network can be trained with."""


class LabelledImages(NamedTuple):
    """Images and what they show."""

    x: Float64[np.ndarray, "n p"]
    """Pixels in 0 .. 1"""
    y: Int64[np.ndarray, " n"]


class DigitsSplits(NamedTuple):
    """Three parts without an image in common."""

    train: LabelledImages
    check: LabelledImages
    test: LabelledImages


def digits_splits(seed: int) -> DigitsSplits:
    """The digits in parts of 900, 450 and 447 images; the same seed gives the same parts.

    Pixels are multiples of 1/16. Raises ImportError, naming the way out, without scikit-learn.
    """
    try:
        bundled = importlib.import_module("sklearn.datasets").load_digits()
    except ImportError as missing:
        raise ImportError(
            "digits_splits needs scikit-learn, which is not installed: "
            "pip install 'compactproofs[gate]'"
        ) from missing
    x, y = bundled.data / 16.0, bundled.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(x))
    parts = np.split(order, [_TRAIN, _TRAIN + _CHECK])
    return DigitsSplits(*(LabelledImages(x[part], y[part]) for part in parts))


@dataclass(frozen=True)
class MlpSettings:
    """What to train and how: Adam on cross-entropy, its learning rate falling as a cosine.

    hidden: widths of the layers between input and logits, a ReLU after each; epochs: passes over
    the data; batch: images a step; learning_rate: at the start; weight_decay: Adam's, of all
    parameters (added to the gradient); seed: of the initial weights and the order of the images.
    Raises TrainingError, naming the field and its value, when a value is out of range.
    """

    hidden: tuple[int, ...] = (32, 32)
    epochs: int = 300
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 5e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name, least in (("epochs", 1), ("batch", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise TrainingError(
                    f"MlpSettings: {name}={getattr(self, name)}, but it must be at least {least}"
                )
        if any(width < 1 for width in self.hidden):
            raise TrainingError(
                f"MlpSettings: hidden={self.hidden}, but every width must be 1 or more"
            )
        for name, open_end in (("learning_rate", True), ("weight_decay", False)):
            value = getattr(self, name)
            if not (math.isfinite(value) and (value > 0 if open_end else value >= 0)):
                raise TrainingError(
                    f"MlpSettings: {name}={value}, but it must be "
                    f"{'positive' if open_end else '0 or more'} and finite"
                )


def train_mlp(
    x: Float64[np.ndarray, "n p"],
    y: Int64[np.ndarray, " n"],
    settings: MlpSettings,
    outputs: int = 10,
) -> ReluNetwork:
    """A ReLU network that answers ``y`` to ``x``; the same arguments give the same weights.

    ``outputs`` logits, one a class. The weights are float32 numbers, held as float64. Raises
    TrainingError for data that do not fit, ImportError, naming the way out, without torch.
    Cost: about 3 s for 900 images and 300 epochs.
    """
    if len(x) != len(y) or not len(x) or y.min() < 0 or y.max() >= outputs:
        raise TrainingError(
            f"train_mlp: {len(x)} images with {len(y)} labels, for {outputs} outputs: pass one "
            "label from 0 to outputs - 1 an image, and at least one image"
        )
    try:
        torch = importlib.import_module("torch")
    except ImportError as missing:
        raise ImportError(
            "train_mlp needs torch, which is not installed: pip install 'compactproofs[train]'"
        ) from missing
    from ._torch import one_thread

    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        widths = (x.shape[1], *settings.hidden, outputs)
        linears = [torch.nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        modules = [linears[0]]
        for linear in linears[1:]:
            modules += [torch.nn.ReLU(), linear]
        model = torch.nn.Sequential(*modules)
        images = torch.tensor(x, dtype=torch.float32)
        labels = torch.tensor(y)
        adam = torch.optim.Adam(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = settings.epochs * math.ceil(len(x) / settings.batch)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        for _ in range(settings.epochs):
            for part in torch.randperm(len(x)).split(settings.batch):
                loss = torch.nn.functional.cross_entropy(model(images[part]), labels[part])
                adam.zero_grad()
                loss.backward()
                adam.step()
                falling.step()
        return ReluNetwork(
            tuple(
                ReluLayer(
                    linear.weight.detach().double().numpy().T,
                    linear.bias.detach().double().numpy(),
                    relu=number > 0,
                )
                for number, linear in enumerate(linears)
            )
        )
