"""The frame and the tables of HTML pages: one self-contained file, dark and light, readable on a phone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from html import escape
from typing import Any

from trainer.data.metrics import METRICS

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5a6675; --paper: #ffffff; --line: #d8dee6; --mark: #1f6fd6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf2; --soft: #9aa7b8; --paper: #14181f; --line: #2d3541; --mark: #6aa9ff; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  padding: 1.2rem; max-width: 75rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p, figcaption { color: var(--soft); margin: .2rem 0; }
.scroll { overflow: auto; max-height: 27rem; border: 1px solid var(--line); border-radius: 6px; }
thead th { position: sticky; top: 0; background: var(--paper); z-index: 1; box-shadow: 0 1px var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.text, th.text { text-align: left; }
tbody tr:last-child td { border-bottom: 0; } tr.best td { font-weight: 600; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--mark); }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; } svg { max-width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; } svg circle { fill: var(--mark); fill-opacity: .7; }
svg line { stroke: var(--line); } code { overflow-wrap: anywhere; }
tbody th { font-weight: 400; } tbody tr:last-child th { border-bottom: 0; }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; } a { color: var(--mark); }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; top: .5rem; padding: .3rem .6rem;
  background: var(--paper); z-index: 3; }
"""

SORTING = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => { const cell = row.cells[head.cellIndex]; return cell.dataset.value ?? cell.textContent; };
  const plain = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  const order = (a, b) => a === "" ? 1 : b === "" ? -1 : plain(a, b) * (up ? 1 : -1);  // empty cells last, either way
  [...body.rows].sort((a, b) => order(key(a), key(b))).forEach(row => body.append(row));
});
"""


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """Return an HTML document. Its content security policy allows this program's script alone, and no requests."""
    style, script = STYLE + style, SORTING + script
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_hash(script)}'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<style>{style}</style>\n</head>\n<body>\n<a class="skip" href="#main">To the content</a>\n'
        f'<main id="main" tabindex="-1">\n{body}\n</main>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def table(
    caption: str,
    header: list[str],
    rows: list[list[Any]],
    *,
    best: Collection[int] = (),
    jobs: Sequence[int] | None = None,
    named: bool = False,
) -> str:
    """Return a table whose columns are sorted by a click or the Enter key; columns without a value are left out.

    Args:
        caption: read out by screen readers.
        header, rows: columns and cells; None is an empty cell.
        best: rows to highlight.
        jobs: a number for each row, whose check box shows the curves of this job.
        named: whether the first column names the rows.
    """
    shown = [i for i in range(len(header)) if any(row[i] is not None for row in rows)]
    header, rows = [header[i] for i in shown], [[row[i] for i in shown] for row in rows]
    texts = {i for i in range(len(header)) if any(isinstance(row[i], str) for row in rows)}
    kind = {i: ' class="text"' if i in texts else "" for i in range(len(header))}
    digits = [_digits(name, [row[i] for row in rows]) for i, name in enumerate(header)]
    head = "".join(f'<th scope="col"{kind[i]}><button>{escape(name)}</button></th>' for i, name in enumerate(header))
    lines = []
    for index, row in enumerate(rows):
        mark = ' class="best"' if index in best else ""
        cells = "".join(_cell(value, kind[i], digits[i], named and i == 0) for i, value in enumerate(row))
        if jobs is not None:
            mark += f' data-job="{jobs[index]}"'
            cells = f'<td class="tick"><input type="checkbox" aria-label="curves" data-job="{jobs[index]}"></td>{cells}'
        lines.append(f"<tr{mark}>{cells}</tr>")
    head = head if jobs is None else f'<th class="tick"></th>{head}'
    body = "\n".join(lines)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _digits(name: str, column: list[Any]) -> str:
    """Return the format of a column's floats: metrics and fractions get four decimals, typed values stay short."""
    sizes = [abs(value) for value in column if isinstance(value, float) and value != 0]
    if name in METRICS and METRICS[name].better == "max" and all(size <= 1 for size in sizes):
        return ".4f"
    measured = any(round(size, 2) != size for size in sizes)
    return ".4f" if measured and all(0.01 <= size <= 1 for size in sizes) else ".4g"


def _cell(value: Any, kind: str, digits: str, head: bool = False) -> str:
    if head:
        return f'<th scope="row"{kind}>{escape(str(value))}</th>'
    if value is None:
        return f'<td{kind} data-value=""></td>'
    if isinstance(value, float):
        return f'<td{kind} data-value="{value!r}">{value:{digits}}</td>'
    return f"<td{kind}>{escape(str(value))}</td>"
