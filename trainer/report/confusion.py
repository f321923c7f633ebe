"""The confusion matrix on a run's page: the counts, a picture for many classes, and the most confused pairs."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from trainer.report import page

MAX_TABLE_CLASSES = 200  # up to which every count is shown
PICTURE_FROM = 25  # classes from which a picture is drawn
PAIRS = 20  # of confused classes
BLUE = (31, 111, 214)

STYLE = """
.record .matrix { max-height: 85vh; }
.matrix table { width: auto; border-collapse: separate; border-spacing: 0; }
.matrix th, .matrix td { border: 0; }
.matrix td { text-align: center; padding: .15rem; min-width: 2rem; font-weight: 400 !important; }
.matrix thead th { position: sticky; top: 0; background: var(--paper); z-index: 1; vertical-align: bottom;
  text-align: center; padding: .3rem .15rem; }
.matrix tbody th { position: sticky; left: 0; background: var(--paper); text-align: right; padding: .15rem .5rem; }
.matrix thead th:first-child { left: 0; z-index: 2; text-align: right; font-weight: 400; color: var(--soft); }
.matrix.many { font-size: .8rem; } .matrix.many thead th:not(:first-child) span { writing-mode: vertical-rl;
  transform: rotate(180deg); max-height: 9rem; overflow: hidden; text-overflow: ellipsis; }
.matrix tbody th span { display: inline-block; max-width: 9rem; overflow: hidden; text-overflow: ellipsis;
  vertical-align: bottom; }
.matrix .d { box-shadow: inset 0 0 0 1px var(--line); }
.heat img { image-rendering: pixelated; width: min(100%, 34rem); border: 1px solid var(--line); }
""" + "".join(
    f".s{n} {{ background: rgb(31 111 214 / {n * 10}%); {'color: #fff;' if n > 5 else ''} }}\n" for n in range(1, 11)
)


def section(matrix: list[list[int]], classes: list[str]) -> str:
    """Return the section as HTML; rows of the matrix are the true classes, columns the predicted ones."""
    pairs = most_confused(matrix, classes)
    header = ["true", "predicted", "samples", "share of the true class"]
    table = page.table("Most confused classes", header, [list(pair) for pair in pairs], named=True)
    parts = [f"<h3>Most confused classes</h3>{table}"] if pairs else []
    if len(classes) <= PICTURE_FROM:
        return "\n".join([_table(matrix, classes), *parts])
    if len(classes) <= MAX_TABLE_CLASSES:
        parts.append("<h3>All counts</h3>" + _table(matrix, classes))
    return "\n".join([_picture(matrix, classes), *parts])


def most_confused(matrix: list[list[int]], classes: list[str]) -> list[tuple[str, str, int, float]]:
    """Return (true class, predicted class, samples, share of the true class) of the most frequent mistakes."""
    pairs = [
        (classes[i], classes[j], count, count / sum(row))
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count > 0
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:PAIRS]


def _table(matrix: list[list[int]], classes: list[str]) -> str:
    many = " many" if len(classes) > 12 or max(map(len, classes)) > 6 else ""
    head = "".join(f'<th scope="col" title="{escape(name)}"><span>{escape(name)}</span></th>' for name in classes)
    lines = []
    for i, (name, row) in enumerate(zip(classes, matrix, strict=True)):
        total = max(sum(row), 1)
        cells = "".join(_cell(count, count / total, i == j, name, classes[j]) for j, count in enumerate(row))
        lines.append(f'<tr><th scope="row" title="{escape(name)}"><span>{escape(name)}</span></th>{cells}</tr>')
    return (
        f'<div class="scroll matrix{many}" role="region" aria-label="Confusion matrix" tabindex="0"><table>'
        f'<caption class="unseen">Rows are the true classes, columns the predicted ones; empty cells are 0.</caption>'
        f'<thead><tr><th scope="col">true \\ predicted</th>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _cell(count: int, share: float, diagonal: bool, true: str, guess: str) -> str:
    if count == 0:
        return '<td class="d"></td>' if diagonal else "<td></td>"
    shade = min(10, max(1, round(share * 10)))
    title = f"{escape(true)}: {count} right" if diagonal else f"{escape(true)} taken for {escape(guess)}: {count}"
    return f'<td class="s{shade}" title="{title}">{count}</td>'


def _picture(matrix: list[list[int]], classes: list[str]) -> str:
    """Return a picture with a pixel for each cell, the more opaque the larger its share of the true class."""
    image = Image.new("RGBA", (len(classes), len(classes)))
    for i, row in enumerate(matrix):
        total = max(sum(row), 1)
        for j, count in enumerate(row):
            if count > 0:
                image.putpixel((j, i), (*BLUE, min(255, 40 + round(215 * count / total))))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    right = sum(matrix[i][i] for i in range(len(classes)))
    share = right / max(sum(map(sum, matrix)), 1)
    caption = f"{len(classes)} true classes downwards, predicted ones to the right; {share:.1%} on the diagonal"
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<figure class="heat"><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
