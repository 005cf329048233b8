"""The few SVG elements that the figures need, each returned as text."""

from collections.abc import Iterable
from html import escape

INK = "#1f2430"
FAINT = "#6b7280"
RULE = "#d5d9e0"

Pixels = float | int


def text(
    x: Pixels, y: Pixels, content: str, *, size: int = 12, anchor: str = "start", fill: str = INK,
    weight: str = "normal",
) -> str:  # fmt: skip
    """A line of text with its baseline at ``(x, y)``, in pixels."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}">{escape(content)}</text>'
    )


def line(x1: Pixels, y1: Pixels, x2: Pixels, y2: Pixels, stroke: str = RULE, dash: str = "") -> str:
    """A straight line, dashed if ``dash`` is given as in SVG."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"{dashes}/>'
    )


def rect(x: Pixels, y: Pixels, width: Pixels, height: Pixels, fill: str, title: str = "") -> str:
    """A filled rectangle; ``title`` shows on hovering."""
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"'
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def document(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """A whole SVG file on a white ground."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
