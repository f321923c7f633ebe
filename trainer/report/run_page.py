"""report.html: one run as one self-contained page."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path

from trainer.data.confidence import beside
from trainer.data.metrics import shown, text
from trainer.files import write_atomically
from trainer.records.metrics import points
from trainer.records.record import Record, read
from trainer.records.results import Results
from trainer.report import confusion, explained, mistakes, page, sections, svg

FILE = "report.html"
MOST_ROWS = 200  # of metrics.csv in the page's table

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
.mistakes.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.mistakes img.fine { image-rendering: auto; } .mistakes b { color: var(--ink); overflow-wrap: anywhere; }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: .7rem; margin: .4rem 0;
  font-size: .85rem; } details { margin: .6rem 0; } summary { cursor: pointer; padding: .2rem 0; }
.status { display: inline-block; border: 1px solid currentcolor; border-radius: 99px; padding: 0 .6rem;
  color: var(--ink); }
img.wide { max-width: 100%; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""


def write_page(folder: Path) -> Path:
    """Write the page of a run into its folder; return its path.

    Raises:
        UserError: the folder holds no run, or a file in it is damaged.
    """
    path = folder / FILE
    write_atomically(path, html(read(folder)).encode())
    return path


def html(record: Record) -> str:
    """Return the page."""
    contents = {
        "Curves": _curves(record),
        "Classes": sections.classes(record),
        "Labels": sections.labels(record),
        "Targets": sections.targets(record),
        "Confusion matrix": _confusion(record),
        "Predictions": _predictions(record),
        "Calibration": sections.calibration(record),
        "Later evaluations": sections.evaluations(record),
        "Most confident mistakes": mistakes.section(record),
        "What decided": explained.section(record),
        "First batch": sections.first_batch(record),
        "Model": sections.model(record),
        "Configuration": _configuration(record),
        "Environment": _environment(record),
        "Commands": _commands(record),
    }
    shown = {name: text for name, text in contents.items() if text}
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
    """Return the title, how the run ended, and the main numbers."""
    results = record.results
    chosen = ", ".join(
        f"{group} {record.choices[group]}" for group in ("data", "model", "optim") if group in record.choices
    )
    reason = (results and results.reason) or ""
    parts = [f"<h1>Run {escape(record.path.resolve().name)}</h1>"]
    parts.append(f'<p><span class="status">{escape(record.status.replace("_", " "))}</span> {escape(reason)}</p>')
    parts.append(f"<p>{escape(chosen)}</p>")
    cards = _cards(results) if results else []
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in cards)
    return "\n".join(parts) + (f'\n<dl class="cards">{cells}</dl>' if cells else "")


def _cards(results: Results) -> list[tuple[str, str]]:
    """Return (name, value) of the metrics of the test, or else of the best validation, and of the run's size."""
    cards = []
    for split in ("test", "valid"):
        values = {name: value for name, value in results.split(split).items() if value is not None}
        metrics = shown("headline", "line", "table", among=values)
        cards += [
            (
                f"{split} {metric.label}",
                text(metric.name, values[metric.name])
                + (beside(results.test, metric.name) if split == "test" and results.test else ""),
            )
            for metric in metrics
        ]
        if cards:
            break
    if results.ended_inside or results.best_inside:
        name, length, best = "steps", results.steps, results.best_step
    else:
        name, length, best = "epochs", results.epochs, results.best_epoch
    cards.append((name, f"{length}" if best is None else f"{length}, best {best}"))
    if "total" in results.parameters:
        cards.append(("parameters", f"{results.parameters['total']:,}"))
    if "total" in results.seconds:
        cards.append(("time", _time(results.seconds["total"])))
    return cards


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _curves(record: Record) -> str:
    """Return a chart of each metric by epoch or step, and the rows of metrics.csv."""
    rows, best, across = record.rows, record.best, record.across
    if not rows:
        return ""
    charts = []
    for name in rows[0].split("valid"):
        lines = {split: points(rows, f"{split}_{name}", across) for split in ("train", "valid")}
        charts.append(svg.line_chart(name.replace("_", " "), across, lines, best))
    charts.append(svg.line_chart("learning rate", across, {"": points(rows, "lr", across)}))
    every = -(-len(rows) // MOST_ROWS)
    shown_rows = [row.to_dict() for row in rows[::-1][::every][::-1]]
    cells = [[_whole(value) for value in row.values()] for row in shown_rows]
    table = page.table("Every validation", list(shown_rows[0]), cells, named=True)
    summary = f"The numbers ({len(rows):,} validations{f', one in {every} shown' if every > 1 else ''})"
    return f'<div class="plots">{"".join(charts)}</div>\n<details><summary>{summary}</summary>{table}</details>'


def _whole(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


def _confusion(record: Record) -> str:
    if record.test is None or not record.test.confusion_matrix:
        return ""
    return confusion.section(record.test.confusion_matrix, [entry.name for entry in record.test.per_class])


def _predictions(record: Record) -> str:
    """Return the charts of a regression, for each of several targets below its name."""
    parts = []
    for name, listed in {"": record.details.predictions or [], **(record.details.targets or {})}.items():
        if pairs := [(pair[0], pair[1]) for pair in listed if len(pair) == 2]:
            against = svg.scatter_chart("predicted against true", "true", "predicted", pairs, diagonal=True)
            residuals = [(predicted, predicted - true) for true, predicted in pairs]
            beside = svg.scatter_chart("residuals", "predicted", "predicted - true", residuals)
            title = f"<h3>{escape(name)}</h3>" if name else ""
            parts.append(f'{title}<div class="plots">{against}{beside}</div>')
    return "\n".join(parts)


def _configuration(record: Record) -> str:
    rows = [[group, option] for group, option in record.choices.items() if option != "None"]
    table = page.table("Chosen options", ["group", "option"], rows, named=True) if rows else ""
    return f'{table}\n<details><summary>config.yaml</summary><pre tabindex="0">{escape(record.text)}</pre></details>'


def _environment(record: Record) -> str:
    results = record.results
    if results is None:
        return ""
    rows: list[tuple[str, str | float | None]] = [
        ("device", results.device),
        ("threads", results.threads),
        ("seed", results.seed),
        ("git commit", results.git_commit),
        ("data fingerprint", results.data_fingerprint),
    ]
    rows += results.versions.items()
    rows += [(f"seconds, {name}", round(value, 3)) for name, value in results.seconds.items()]
    if results.samples_per_second is not None:
        rows.append(("samples per second", round(results.samples_per_second, 3)))
    if results.peak_memory_bytes:
        rows.append(("peak memory", f"{results.peak_memory_bytes / 1e6:,.0f} MB"))
    if results.skipped_images:
        rows.append(("images left out", len(results.skipped_images)))
    cells = [[name, str(value)] for name, value in rows if value is not None]
    return page.table("Environment", ["what", "value"], cells, named=True)


def _config_dir(record: Record) -> list[str]:
    """Return the flag that names a folder of the user's own YAML; empty if there was none."""
    command = record.results.command if record.results else []
    for index, word in enumerate(command):
        if word.startswith(("--config-dir=", "-cd=")):
            return [word]
        if word in ("--config-dir", "-cd"):
            return command[index : index + 2]
    return []


def _commands(record: Record) -> str:
    """Return commands to copy. Only the words after the first come from the folder, and each is quoted."""
    folder = shlex.quote(str(record.path))
    words = record.overrides
    lines = [("Repeat", shlex.join(["train", *_config_dir(record), *words]))] if words is not None else []
    lines += [
        ("Resume", f"train resume={folder}"),
        ("Predict", f"trainer predict {folder} FILE..."),
        ("Test again", f"trainer evaluate {folder}"),
    ]
    return "".join(
        f'<h3>{name}</h3><pre tabindex="0" aria-label="{name}"><code>{escape(text)}</code></pre>'
        for name, text in lines
    )
