"""Neurons of an MLP in plain SVG: what is proved of each, and how much one feature has of it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from ._svg import FAINT, document, line, rect, text

KINDS = ("on", "off", "alone", "dominated", "interacting")
_HUES = ("#2166ac", "#92c5de", "#d9d9d9", "#e0a458", "#b2182b")
_LEFT, _ACROSS = 60, 640


def neuron_states(
    tally: Int64[np.ndarray, "5 m"], title: str, counts: Sequence[tuple[str, int]] = ()
) -> str:
    """An SVG: for each neuron the shares of codes for which it is on, off, alone, dominated, none.

    tally: as of ``kernel.Independence``. Neurons with the least share of ``interacting`` come
    first. counts: what to say below, such as the neurons of each status.
    """
    share = tally / np.maximum(tally.sum(axis=0), 1)
    order = np.lexsort((share[0], share[3], share[4]))
    top, tall = 66, 170
    step = _ACROSS / max(1, tally.shape[1])
    parts = [text(10, 20, title, size=14, weight="bold")]
    total = share.mean(axis=1) if tally.shape[1] else np.zeros(5)
    x = float(_LEFT)
    for kind, hue, part in zip(KINDS, _HUES, total, strict=True):
        parts.append(rect(x, 34, 11, 11, hue))
        label = f"{kind} {part:.1%}"
        parts.append(text(x + 15, 44, label, size=11))
        x += 32 + 6.4 * len(label)
    for place, neuron in enumerate(order.tolist()):
        y = float(top)
        for kind, hue, part, codes in zip(
            KINDS, _HUES, share[:, neuron], tally[:, neuron].tolist(), strict=True
        ):
            if codes:
                hint = f"neuron {neuron}: {kind} for {codes:,} codes ({part:.2%})"
                width = max(step - (0.6 if step > 3 else 0), 0.4)
                parts.append(rect(_LEFT + place * step, y, width, tall * part, hue, hint))
            y += tall * part
    parts += [
        text(_LEFT - 6, top + 9, "100 %", size=10, anchor="end", fill=FAINT),
        text(_LEFT - 6, top + tall, "0", size=10, anchor="end", fill=FAINT),
        text(
            _LEFT + _ACROSS / 2, top + tall + 16, "neurons, the least interacting first", size=11,
            anchor="middle",
        ),
    ]  # fmt: skip
    if counts:
        said = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in counts)
        parts.append(text(_LEFT, top + tall + 34, f"neurons by status: {said}", size=11))
    return document(_LEFT + _ACROSS + 20, top + tall + 46, title, parts)


def dominant_share_figure(share: Float64[np.ndarray, " m"], overall: float, title: str) -> str:
    """An SVG: the strongest feature's share of all pull at each neuron, sorted, and the mean."""
    known = np.sort(share[np.isfinite(share)])[::-1]
    top, tall = 52, 150
    step = _ACROSS / max(1, len(known))
    parts = [
        text(10, 20, title, size=14, weight="bold"),
        text(10, 36, "max |p| / sum |p| of an input, on average; 100 % is one feature", size=11,
             fill=FAINT),
    ]  # fmt: skip
    for part in (0.0, 0.5, 1.0):
        y = top + tall * (1 - part)
        parts.append(line(_LEFT, y, _LEFT + _ACROSS, y))
        parts.append(text(_LEFT - 6, y + 4, f"{part:.0%}", size=10, anchor="end", fill=FAINT))
    for n, value in enumerate(known.tolist()):
        parts.append(
            rect(
                _LEFT + n * step, top + tall * (1 - value), max(step * 0.9, 0.4), tall * value,
                "#6a8fbf", f"{value:.2%}",
            )
        )  # fmt: skip
    if np.isfinite(overall):
        y = top + tall * (1 - overall)
        parts.append(line(_LEFT, y, _LEFT + _ACROSS, y, stroke="#b2182b", dash="4 3"))
        parts.append(
            text(_LEFT + _ACROSS, y - 4, f"mean {overall:.1%}", size=11, anchor="end",
                 fill="#b2182b")
        )  # fmt: skip
    parts.append(text(_LEFT + _ACROSS / 2, top + tall + 16, "neurons", size=11, anchor="middle"))
    return document(_LEFT + _ACROSS + 20, top + tall + 28, title, parts)
