"""One self-contained HTML page: sections of text, tiles, tables and figures; nothing is loaded."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape

_STYLE = """
:root{color-scheme:light dark;--ink:#1f2430;--faint:#667085;--rule:#d5d9e0;--ground:#fff;
--card:#f6f7f9}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8ec;--faint:#98a2b3;--rule:#3a4150;
--ground:#14171d;--card:#1c2028}figure{background:#fff;color:#1f2430;border-radius:6px}}
*{box-sizing:border-box}
body{font:16px/1.55 system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;
color:var(--ink);background:var(--ground);max-width:1080px;margin:0 auto;padding:24px 20px 80px}
h1{font-size:1.7rem;line-height:1.2;margin:.2em 0}
h2{margin:2.2em 0 .4em;border-bottom:1px solid var(--rule);padding-bottom:.2em}
h3{margin:1.4em 0 .3em}p{max-width:75ch}.faint{color:var(--faint)}
nav a{margin-right:1.1em;color:inherit}.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:1em 0}
.tile{background:var(--card);border-radius:8px;padding:12px 16px;min-width:150px}
.tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid var(--rule);text-align:left;white-space:nowrap}
td.n,th.n{text-align:right}th{cursor:pointer;user-select:none}
th:after{content:' \\2195';color:var(--faint)}
tr.mark td{background:var(--card);font-weight:600}
figure{margin:1em 0;padding:4px;overflow-x:auto}figure svg{max-width:100%;height:auto}
.row{display:flex;flex-wrap:wrap;gap:8px}
details{border:1px solid var(--rule);border-radius:8px;margin:.5em 0;padding:0 12px}
summary{cursor:pointer;padding:8px 0;font-variant-numeric:tabular-nums}
pre{background:var(--card);padding:12px;border-radius:8px;overflow-x:auto;font-size:.85rem}
@media print{nav{display:none}th:after{content:''}h2{break-after:avoid}
figure,table{break-inside:avoid}}
"""

_SORT = """
document.querySelectorAll('table.sortable').forEach(t=>{
t.querySelectorAll('th').forEach((h,i)=>{let up=false;
const v=r=>{const s=r.children[i].textContent,n=parseFloat(s.replace(/,/g,''));
return isNaN(n)?s:n};
h.addEventListener('click',()=>{up=!up;
[...t.tBodies[0].rows].sort((a,b)=>{const x=v(a),y=v(b);return (x>y?1:x<y?-1:0)*(up?1:-1)})
.forEach(r=>t.tBodies[0].append(r))})})});
"""


class Page:
    """A page built section by section; ``html()`` is the whole file."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        """Start with a heading."""
        self._title, self._subtitle = title, subtitle
        self._sections: list[tuple[str, list[str]]] = []
        self._script = ""

    def section(self, title: str) -> None:
        """Begin a section; blocks that follow belong to it."""
        self._sections.append((title, []))

    def _add(self, block: str) -> None:
        if not self._sections:
            self.section("Overview")
        self._sections[-1][1].append(block)

    def heading(self, text: str) -> None:
        """A heading within a section."""
        self._add(f"<h3>{escape(text)}</h3>")

    def text(self, text: str, *, faint: bool = False) -> None:
        """A paragraph."""
        self._add(f"<p{' class=faint' if faint else ''}>{escape(text)}</p>")

    def code(self, text: str) -> None:
        """Text as it is, for commands and digests."""
        self._add(f"<pre>{escape(text)}</pre>")

    def tiles(self, tiles: Sequence[tuple[str, str]]) -> None:
        """Numbers to look at first: ``(value, what it is)``."""
        body = "".join(
            f"<div class=tile><b>{escape(value)}</b><span class=faint>{escape(what)}</span></div>"
            for value, what in tiles
        )
        self._add(f"<div class=tiles>{body}</div>")

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[object]], marked: Sequence[int] = ()
    ) -> None:
        """A table that sorts by a click on a heading; numbers are set to the right."""
        numeric = [
            bool(rows) and all(_is_number(str(row[i])) for row in rows) for i in range(len(head))
        ]
        top = "".join(
            f"<th{' class=n' if number else ''}>{escape(name)}</th>"
            for name, number in zip(head, numeric, strict=True)
        )
        body = "".join(
            f"<tr{' class=mark' if n in set(marked) else ''}>"
            + "".join(
                f"<td{' class=n' if number else ''}>{escape(str(cell))}</td>"
                for cell, number in zip(row, numeric, strict=True)
            )
            + "</tr>"
            for n, row in enumerate(rows)
        )
        self._add(
            "<div class=scroll><table class=sortable>"
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def figure(self, *svgs: str) -> None:
        """SVG pictures side by side, as far as there is room."""
        body = "".join(f"<figure>{_embedded(svg)}</figure>" for svg in svgs)
        self._add(f"<div class=row>{body}</div>")

    @contextmanager
    def fold(self, title: str, *, is_open: bool = False) -> Iterator[None]:
        """What is added inside shows after a click on ``title``."""
        self._add(f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>")
        yield
        self._add("</details>")

    def interactive(self, fragment: str, script: str) -> None:
        """A fragment of HTML that needs ``script``, which goes on the page once."""
        self._script = script
        self._add(f"<figure>{fragment}</figure>")

    def html(self) -> str:
        """The whole page."""
        links = "".join(
            f'<a href="#s{n}">{escape(title)}</a>' for n, (title, _) in enumerate(self._sections)
        )
        body = "".join(
            f'<section id="s{n}"><h2>{escape(title)}</h2>{"".join(blocks)}</section>'
            for n, (title, blocks) in enumerate(self._sections)
        )
        script = f"<script>{self._script}</script>" if self._script else ""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style>{script}</head><body>"
            f"<header><h1>{escape(self._title)}</h1><p class=faint>{escape(self._subtitle)}</p>"
            f"<nav>{links}</nav></header>{body}<script>{_SORT}</script></body></html>\n"
        )


def _embedded(svg: str) -> str:
    """An SVG file as part of a page: without its XML prologue and document type."""
    return re.sub(r"^.*?(?=<svg)", "", svg, count=1, flags=re.DOTALL)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9][0-9,]*(\.[0-9]+)?(e[-+]?[0-9]+)?|-", text.strip()) is not None
