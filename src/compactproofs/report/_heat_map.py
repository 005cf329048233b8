"""A matrix as a heat map in plain SVG: red above 0, blue below, white at 0."""

import base64
import struct
import zlib

import numpy as np
from jaxtyping import Float64, UInt8

from ._svg import FAINT, document, line, text

_WARM = np.array([178, 24, 43])
_COLD = np.array([33, 102, 172])
_SIDE = 300


def heat_map(
    matrix: Float64[np.ndarray, "r c"], title: str, rows: str, columns: str, note: str = ""
) -> str:
    """An SVG document; ``rows`` and ``columns`` name the axes, index 0 at the upper left.

    The colours are centred at 0 and reach their ends at the largest entry in size.
    """
    height, width = matrix.shape
    reach = float(np.abs(matrix).max()) if matrix.size else 0.0
    share = np.divide(matrix, reach or 1.0)
    across, down = _SIDE, max(60, min(_SIDE, round(_SIDE * height / max(1, width))))
    left, top = 56, 50
    right = left + across
    bar = _png(_colours(np.linspace(1, -1, 64)[:, None]))
    parts = [
        text(left, 22, title, size=14, weight="bold"),
        text(left, 38, note, size=11, fill=FAINT),
        _image(left, top, across, down, _png(_colours(share))),
        text(left, top + down + 16, "0", size=10, fill=FAINT),
        text(right, top + down + 16, str(width - 1), size=10, fill=FAINT, anchor="end"),
        text(left + across / 2, top + down + 16, columns, size=11, anchor="middle"),
        text(left - 6, top + 10, "0", size=10, fill=FAINT, anchor="end"),
        text(left - 6, top + down, str(height - 1), size=10, fill=FAINT, anchor="end"),
        f'<g transform="translate({left - 30} {top + down / 2:.1f}) rotate(-90)">'
        + text(0, 0, rows, size=11, anchor="middle")
        + "</g>",
        _image(right + 14, top, 12, down, bar),
        line(right + 14, top + down / 2, right + 26, top + down / 2, stroke=FAINT),
        text(right + 30, top + 10, f"{reach:.3g}", size=10, fill=FAINT),
        text(right + 30, top + down / 2 + 3, "0", size=10, fill=FAINT),
        text(right + 30, top + down, f"{-reach:.3g}", size=10, fill=FAINT),
    ]
    return document(right + 80, top + down + 30, title, parts)


def grey_image(x: int, y: int, width: int, height: int, values: Float64[np.ndarray, "r c"]) -> str:
    """An ``<image>`` element: white at the least value, black at the largest."""
    least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    dark = np.clip((values - least) / ((most - least) or 1.0), 0.0, 1.0)
    grey = np.rint(255 * (1 - dark)).astype(np.uint8)
    return _image(x, y, width, height, _png(np.repeat(grey[:, :, None], 3, axis=2)))


def _colours(share: Float64[np.ndarray, "r c"]) -> UInt8[np.ndarray, "r c 3"]:
    size = np.sqrt(np.abs(np.nan_to_num(share)))[:, :, None]  # small entries stay visible
    end = np.where(share[:, :, None] >= 0, _WARM, _COLD)
    return np.rint(255 + (end - 255) * size).astype(np.uint8)


def _image(x: int, y: int, width: int, height: int, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
    )


def _png(pixels: UInt8[np.ndarray, "r c 3"]) -> bytes:
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
