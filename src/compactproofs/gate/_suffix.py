"""What follows the cut, for code that searches: bounds of many cells at once, in plain float64.

The formulas are the kernel's (``kernel/gate/_region_bounds``), without enclosures: nothing here is
trusted, and what is found here counts only once ``certify_region`` has computed it again.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from ..kernel.gate import ReluNetwork, Sites


class Ranges(NamedTuple):
    """Of every layer from the cut on, on each of g boxes; ``empty`` where the signs exclude all."""

    low: tuple[Float64[np.ndarray, "g _"], ...]
    high: tuple[Float64[np.ndarray, "g _"], ...]
    empty: Bool[np.ndarray, " g"]


class Form(NamedTuple):
    """``A a + k`` of each box and form."""

    A: Float64[np.ndarray, "g r _"]
    k: Float64[np.ndarray, "g r"]


class Suffix:
    """The layers from the cut to the logits."""

    def __init__(self, network: ReluNetwork, sites: Sites) -> None:
        """Of sites that fit the network; raises ModelError if they do not."""
        sites.require_fit(network)
        self.layers = network.layers[sites.layer :]
        self.after_relu = sites.after_relu
        self.relus = tuple(
            layer.relu and not (number == 0 and sites.after_relu)
            for number, layer in enumerate(self.layers)
        )
        self.skip = network.skip
        self.outputs = network.outputs
        self.unit_slices: dict[int, slice] = {}
        start = 0
        for number, (layer, relu) in enumerate(zip(self.layers, self.relus, strict=True)):
            if relu:
                self.unit_slices[number] = slice(start, start + len(layer.W))
                start += len(layer.W)
        self.units = start
        self.pattern_start = self.unit_slices[0].stop if 0 in self.unit_slices else 0
        """Units before this one are the cut's own, which no pattern speaks of."""

    def forward(self, cut: Float64[np.ndarray, "n s"]) -> tuple[np.ndarray, np.ndarray]:
        """Pre-activations of all units ``[n u]``, and logits ``[n x]``."""
        z, seen = cut, [np.zeros((len(cut), 0))]
        for layer, relu in zip(self.layers, self.relus, strict=True):
            if relu:
                seen.append(z)
                z = np.maximum(z, 0.0)
            z = z @ layer.W + layer.b
        if self.skip is not None:
            z = z + cut @ self.skip
        return np.concatenate(seen, axis=1), z

    def differences(self, labels: Int64[np.ndarray, " g"]) -> Float64[np.ndarray, "g r x"]:
        """Rows that take logits to margins of the label over the other outputs, in order."""
        table = np.stack(
            [np.delete(np.eye(self.outputs)[c] - np.eye(self.outputs), c, axis=0)
             for c in range(self.outputs)]
        )  # fmt: skip
        return table[labels]

    def ranges(
        self,
        low: Float64[np.ndarray, "g s"],
        high: Float64[np.ndarray, "g s"],
        signs: Int8[np.ndarray, "g u"],
    ) -> Ranges:
        """Ranges of every layer on boxes at the cut, with units on (1), off (-1) or free (0)."""
        low = np.maximum(low, 0.0) if self.after_relu else low
        lows: list[np.ndarray] = []
        highs: list[np.ndarray] = []
        empty = np.asarray((low > high).any(axis=1))
        for number, relu in enumerate(self.relus):
            if number:
                W, b = self.layers[number - 1].W, self.layers[number - 1].b
                up, down = np.maximum(W, 0.0), np.minimum(W, 0.0)
                low, high = low @ up + high @ down + b, high @ up + low @ down + b
                # Through one ReLU of a box, interval arithmetic is exact.
                if relu and number > 1:
                    done = Ranges(tuple(lows), tuple(highs), empty)
                    both = np.concatenate([W.T, -W.T])[None], np.concatenate([b, -b])[None]
                    found = self.least(self._to_cut(Form(*both), number - 1, done, None), done)
                    width = len(b)
                    low = np.maximum(low, found[:, :width])
                    high = np.minimum(high, -found[:, width:])
            if relu:
                sign = signs[:, self.unit_slices[number]]
                low = np.where(sign > 0, np.maximum(low, 0.0), low)
                high = np.where(sign < 0, np.minimum(high, 0.0), high)
            empty = np.asarray(empty | (low > high).any(axis=1))
            high = np.maximum(low, high)
            lows.append(low)
            highs.append(high)
            if relu:
                low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
        return Ranges(tuple(lows), tuple(highs), empty)

    def gaps(self, ranges: Ranges) -> Float64[np.ndarray, "g u"]:
        """How far apart the lines above and below each unit can be: ``-l u / (u - l)``, or 0."""
        parts = [np.zeros((len(ranges.empty), 0))]
        for number in self.unit_slices:
            low, high = ranges.low[number], ranges.high[number]
            undecided = (low < 0) & (high > 0)
            width = np.where(undecided, high - low, 1.0)
            parts.append(np.where(undecided, -low * high / width, 0.0))
        return np.concatenate(parts, axis=1)

    def default_slopes(self, ranges: Ranges) -> Float64[np.ndarray, "g u"]:
        """1 where the range reaches further up than down, else 0."""
        parts = [np.zeros((len(ranges.empty), 0))]
        parts += [np.where(ranges.high[i] > -ranges.low[i], 1.0, 0.0) for i in self.unit_slices]
        return np.concatenate(parts, axis=1)

    def margins(
        self,
        labels: Int64[np.ndarray, " g"],
        ranges: Ranges,
        slopes: Float64[np.ndarray, "g u"] | None = None,
    ) -> Form:
        """Forms of the cut that are not above the margins of the labels on their boxes.

        slopes: of the lines below undecided units, ``default_slopes`` if None.
        """
        rows, last = self.differences(labels), self.layers[-1]
        form = Form(rows @ last.W.T, rows @ last.b)
        A, k = self._to_cut(form, len(self.layers) - 1, ranges, slopes)
        return Form(A if self.skip is None else A + rows @ self.skip.T, k)

    def least(self, form: Form, ranges: Ranges) -> Float64[np.ndarray, "g r"]:
        """The least value of each form on its box."""
        low, high = ranges.low[0][:, :, None], ranges.high[0][:, :, None]
        found = np.maximum(form.A, 0.0) @ low + np.minimum(form.A, 0.0) @ high
        return found[..., 0] + form.k

    def _to_cut(self, form: Form, number: int, ranges: Ranges, slopes: np.ndarray | None) -> Form:
        """The form of ``act(z)`` of a layer, taken back to the cut by lines below."""
        A, k = form
        while True:
            if self.relus[number]:
                low, high = ranges.low[number][:, None], ranges.high[number][:, None]
                on, off = low >= 0, high <= 0
                undecided = ~on & ~off
                if slopes is None:
                    below = np.where(high > -low, 1.0, 0.0)
                else:
                    below = slopes[:, None, self.unit_slices[number]]
                chord = np.where(undecided, high, 0.0) / np.where(undecided, high - low, 1.0)
                negative = undecided & (A < 0)
                k = k + (np.where(negative, A, 0.0) * (-chord * low)).sum(axis=2)
                crossing = np.where(negative, chord, below)
                A = A * np.where(undecided, crossing, np.where(on, 1.0, 0.0))
            if number == 0:
                return Form(A, k)
            number -= 1
            layer = self.layers[number]
            A, k = A @ layer.W.T, k + A @ layer.b
