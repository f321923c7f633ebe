"""report.html: one run as one self-contained page."""

from __future__ import annotations

import base64
import binascii
import shlex
from html import escape
from pathlib import Path
from typing import Any

from trainer.files import write_atomically
from trainer.records.record import Record, read
from trainer.report import confusion, page, svg, tested

FILE = "report.html"
MOST_ROWS = 200  # of metrics.csv in the page's table
PNG = b"\x89PNG\r\n\x1a\n"
SHARES = ("accuracy", "top5_accuracy", "balanced_accuracy")

STYLE = """
.record tbody tr:first-child td { font-weight: 400; } .record .scroll { max-height: 32rem; overflow: auto; }
.record thead th { position: sticky; top: 0; background: var(--paper); } h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
dl.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
dl.cards div { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
nav ul { list-style: none; padding: 0; margin: .8rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .8rem; padding: 0;
  list-style: none; } .mistakes img { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; }
.mistakes img.fine { image-rendering: auto; } .mistakes b { color: var(--ink); overflow-wrap: anywhere; }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: .7rem; margin: .4rem 0;
  font-size: .85rem; } details { margin: .6rem 0; } summary { cursor: pointer; padding: .2rem 0; }
.status { display: inline-block; border: 1px solid currentcolor; border-radius: 99px; padding: 0 .6rem;
  color: var(--ink); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""


def write_page(folder: Path) -> Path:
    """Writes the page of a run into its folder; returns its path.

    Raises:
        UserError: it is no run's folder, or a file in it is not as this program writes it.
    """
    path = folder / FILE
    write_atomically(path, html(read(folder)).encode())
    return path


def html(record: Record) -> str:
    """The page."""
    sections = {
        "Curves": _curves(record),
        "Classes": tested.classes(record),
        "Confusion matrix": _confusion(record),
        "Predictions": _predictions(record),
        "Calibration": tested.calibration(record),
        "Later evaluations": tested.evaluations(record),
        "Most confident mistakes": _mistakes(record),
        "Configuration": _configuration(record),
        "Environment": _environment(record),
        "Commands": _commands(record),
    }
    shown = {name: text for name, text in sections.items() if text}
    links = "".join(f'<li><a href="#{_anchor(name)}">{name}</a></li>' for name in shown)
    parts = [_head(record), f'<nav aria-label="Sections"><ul>{links}</ul></nav>']
    parts += [
        f'<section aria-labelledby="{_anchor(name)}"><h2 id="{_anchor(name)}">{name}</h2>\n{text}\n</section>'
        for name, text in shown.items()
    ]
    body = '<div class="record">' + "\n".join(parts) + "</div>"
    return page.page(f"Run {record.path.resolve().name}", body, style=STYLE + svg.STYLE + confusion.STYLE)


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _head(record: Record) -> str:
    results = record.results
    chosen = ", ".join(
        f"{group} {record.choices[group]}" for group in ("data", "model", "optim") if group in record.choices
    )
    reason = results.get("reason") or ""
    parts = [f"<h1>Run {escape(record.path.resolve().name)}</h1>"]
    parts.append(f'<p><span class="status">{escape(record.status.replace("_", " "))}</span> {escape(reason)}</p>')
    parts.append(f"<p>{escape(chosen)}</p>")
    cards = []
    for part in ("test", "valid"):
        found = results.get(part) or {}
        cards += [
            (f"{part} {name.replace('_', ' ')}", _figure(name, found[name]))
            for name in tested.FIGURES
            if _has(found, name)
        ]
        if cards:
            break
    if results:
        epochs = f"{results['epochs'] or 0}" + (
            f", best {results['best_epoch']}" if results["best_epoch"] is not None else ""
        )
        cards.append(("epochs", epochs))
        if _has(results["parameters"] or {}, "total"):
            cards.append(("parameters", f"{results['parameters']['total']:,}"))
        if _has(results["seconds"] or {}, "total"):
            cards.append(("time", _time(results["seconds"]["total"])))
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in cards)
    return "\n".join(parts) + (f'\n<dl class="cards">{cells}</dl>' if cells else "")


def _has(found: dict[str, Any], name: str) -> bool:
    return isinstance(found.get(name), (int, float))


def _figure(name: str, value: float) -> str:
    return f"{value:.2%}" if name in SHARES else f"{value:.4g}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _curves(record: Record) -> str:
    rows, best = record.rows, record.results.get("best_epoch")
    if not rows:
        return ""
    columns = list(rows[0])
    names = [n.removeprefix("valid_") for n in columns if n.startswith("valid_")]
    charts = []
    for name in names:
        lines = {part: _line(rows, f"{part}_{name}") for part in ("train", "valid")}
        charts.append(svg.line_chart(name.replace("_", " "), "epoch", lines, best))
    charts.append(svg.line_chart("learning rate", "epoch", {"": _line(rows, "lr")}))
    every = -(-len(rows) // MOST_ROWS)
    shown = rows[::-1][::every][::-1]
    table = page.table(
        "Every validation", columns, [[_whole(row.get(c)) for c in columns] for row in shown], named=True
    )
    told = f"The numbers ({len(rows):,} validations{f', one in {every} shown' if every > 1 else ''})"
    return f'<div class="plots">{"".join(charts)}</div>\n<details><summary>{told}</summary>{table}</details>'


def _line(rows: list[dict[str, float | None]], column: str) -> list[tuple[float, float]]:
    return [
        (epoch, value)
        for row in rows
        if (epoch := row.get("epoch")) is not None and (value := row.get(column)) is not None
    ]


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


def _confusion(record: Record) -> str:
    matrix = (record.results.get("test") or {}).get("confusion_matrix")
    if not matrix:
        return ""
    return confusion.section(matrix, [row["class"] for row in record.results["test"]["per_class"]])


def _predictions(record: Record) -> str:
    pairs = [pair for pair in record.details.get("predictions") or [] if len(pair) == 2]
    if not pairs:
        return ""
    against = svg.scatter_chart(
        "predicted against true", "true", "predicted", [(t, p) for t, p in pairs], diagonal=True
    )
    residuals = svg.scatter_chart("residuals", "predicted", "predicted - true", [(p, p - t) for t, p in pairs])
    return f'<div class="plots">{against}{residuals}</div>'


def _mistakes(record: Record) -> str:
    found = record.details.get("mistakes")
    if found is None:
        return ""
    items = []
    for mistake in found:
        image = _image(mistake["image"])
        if image is not None:
            told = f"{escape(mistake['true'])}, taken for {escape(mistake['predicted'])}"
            items.append(
                f'<li><figure><img{image} alt="{told}"><figcaption><b>{escape(mistake["predicted"])}</b> '
                f"{mistake['chance']:.1%}<br>true: <b>{escape(mistake['true'])}</b></figcaption></figure></li>"
            )
    return f'<ul class="mistakes">{"".join(items)}</ul>' if items else "<p>The test has no mistakes.</p>"


def _image(text: str) -> str | None:
    """Class and source of an image; None where the text is no PNG in base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data.startswith(PNG) or len(data) < 24:
        return None
    fine = ' class="fine"' if int.from_bytes(data[16:20]) >= 64 else ""  # the width, from the header
    return f'{fine} src="data:image/png;base64,{base64.b64encode(data).decode()}"'


def _configuration(record: Record) -> str:
    rows = [[group, option] for group, option in record.choices.items() if option != "None"]
    table = page.table("Chosen options", ["group", "option"], rows, named=True) if rows else ""
    return f'{table}\n<details><summary>config.yaml</summary><pre tabindex="0">{escape(record.text)}</pre></details>'


def _environment(record: Record) -> str:
    results = record.results
    if not results:
        return ""
    rows: list[list[Any]] = [[name, results[key]] for name, key in (
        ("device", "device"), ("threads", "threads"), ("seed", "seed"), ("git commit", "git_commit"),
        ("data fingerprint", "data_fingerprint"),
    )]  # fmt: skip
    rows += [[name, version] for name, version in (results["versions"] or {}).items()]
    rows += [[f"seconds, {name}", _round(value)] for name, value in (results["seconds"] or {}).items()]
    rows.append(["samples per second", _round(results["samples_per_second"])])
    if results["peak_memory_bytes"]:
        rows.append(["peak memory", f"{results['peak_memory_bytes'] / 1e6:,.0f} MB"])
    if results["skipped_images"]:
        rows.append(["images left out", len(results["skipped_images"])])
    told = [[name, str(value)] for name, value in rows if value is not None]
    return page.table("Environment", ["what", "value"], told, named=True)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _config_dir(record: Record) -> list[str]:
    """The flag that names a folder of the user's own YAML, where there was one."""
    typed = record.results.get("command") or []
    for place, word in enumerate(typed):
        if word.startswith(("--config-dir=", "-cd=")):
            return [word]
        if word in ("--config-dir", "-cd"):
            return typed[place : place + 2]
    return []


def _commands(record: Record) -> str:
    """To be copied; only the words after the first are taken from the folder, each quoted."""
    place = shlex.quote(str(record.path))
    words = record.overrides
    lines = [("Repeat", shlex.join(["train", *_config_dir(record), *words]))] if words is not None else []
    lines += [
        ("Resume", f"train resume={place}"),
        ("Predict", f"trainer predict {place} FILE..."),
        ("Test again", f"trainer evaluate {place}"),
    ]
    return "".join(
        f'<h3>{name}</h3><pre tabindex="0" aria-label="{name}"><code>{escape(text)}</code></pre>'
        for name, text in lines
    )
