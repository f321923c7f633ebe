"""leaderboard.html in a real browser: its table sorts, its curves follow the checkboxes, and names are escaped."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from helpers.metrics import metrics_row, write_metrics
from helpers.sweeps import TINY, places, table
from trainer.records.leaderboard import Row
from trainer.records.ledger import Entry
from trainer.records.results import Results
from trainer.report import charts, leaderboard_page
from trainer.report.leaderboard_page import Page

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"'><svg onload=document.title='owned'>&lt;b&gt;",
    "<!--<script>",
    "\u2028]]>\\u003c/script>",
]


def made(number: int, value: float | None, state: str = "done", name: str = "", **varies: Any) -> Row:
    """A job with a folder here and three epochs behind it."""
    name = name or f"{number:03}-x"
    stored = {"monitor": "valid_accuracy", "epochs": 3, "seed": number}
    Path(f"{number:03}-x").mkdir(exist_ok=True)
    if value is not None:
        rows = [(n, {"train_loss": 1 / n, "valid_loss": 0.5 / n, "valid_accuracy": value * n / 3}) for n in (1, 2, 3)]
        write_metrics(Path(f"{number:03}-x"), [metrics_row(n, **values) for n, values in rows])
    results = None if value is None else Results("completed", valid={"accuracy": value}, epochs=3, best_epoch=3)
    return Row(Entry(number, f"id{number}", name, varies, stored, {}, [], state), results)


def count(text: str, tag: str, within: str) -> int:
    """Return the number of elements with this tag inside the element with this id."""
    found, depth = 0, 0

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
            nonlocal found, depth
            inside = depth > 0
            found += inside and name == tag
            if name not in ("input", "meta", "br", "img", "link"):
                depth += inside or dict(attributes).get("id") == within

        def handle_endtag(self, name: str) -> None:
            nonlocal depth
            depth -= depth > 0

    Reader().feed(text)
    return found


def column(text: str, place: int) -> list[str]:
    """The cells of the jobs' table, from the top."""
    body = text.rpartition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row)[place] for row in re.findall(r"<tr.*?</tr>", body)]


def test_curves_are_by_step_if_a_job_has_one_inside_an_epoch() -> None:
    ends, inside = made(0, 0.5), made(1, 0.6)
    page = Page(Path.cwd(), [], lambda: [ends, inside])
    assert page._data([ends, inside], [])["across"] == "epoch"
    values = {"train_loss": 1.0, "valid_loss": 1.0, "valid_accuracy": 0.2}
    write_metrics(Path("001-x"), [replace(metrics_row(0, **values), step=5)])
    data = Page(Path.cwd(), [], lambda: [ends, inside])._data([ends, inside], [])
    assert data["across"] == "step"
    assert [job["curves"]["valid_loss"] for job in data["jobs"]] == [
        [(10, 0.5), (20, 0.25), (30, 0.166667)],
        [(5, 1.0)],
    ]


def draw(rows: list[Row], words: tuple[str, ...] = ("seed=0,1",)) -> Path:
    Page(Path.cwd(), list(words), lambda: rows).draw(now=True)
    return Path("leaderboard.html")


def test_the_page_of_a_sweep_shows_the_curves_of_the_best(browse, sweep) -> None:
    done = sweep("-m", *TINY, "optim.lr=1e-3,1e-2", "seed=range(4)", "epochs=4", "monitor=valid_accuracy")
    text = browse(done.folder / "leaderboard.html")
    assert count(text, "figure", "curves") == 3  # the monitor and both losses
    assert count(text, "polyline", "curves") == 3 * 5
    assert count(text, "li", "legend") == 5
    assert count(text, "figure", "axes") == 2  # optim.lr, seed
    jobs = len(places(done.folder))
    assert count(text, "circle", "axes") == 2 * (jobs + 1)  # and the ring that marks the nearest
    assert column(text, 1) == [str(rank) for rank in range(1, jobs + 1)]
    assert [f"{float(row['valid_accuracy']):.4f}" for row in table(done.folder)] == column(text, 6)
    assert len(re.findall("<input[^>]*>", text)) == jobs
    assert "tied" in text or text.count("best") > 2


def test_clicks_sort_the_table_and_choose_curves(browse, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = """
    const head = name => [...document.querySelectorAll("th button")].find(b => b.textContent === name);
    document.getElementById("none").click();
    document.querySelectorAll("tr[data-job]")[1].click();
    const box = document.querySelectorAll("input[data-job]")[2];
    box.click();
    head("lr").click(); head("lr").click();
    document.body.dataset.names = [...document.querySelectorAll("#legend li")].map(l => l.textContent).join("|");
    """
    monkeypatch.setattr(charts, "SCRIPT", charts.SCRIPT + driver)
    rows = [made(0, 0.9, lr=0.1), made(1, 0.5, lr=0.03), made(2, 0.7, lr=2.0), made(3, None, "failed", lr=10.0)]
    text = browse(draw(rows))
    assert 'data-names="002-x|001-x"' in text  # the second and the third of the table
    assert count(text, "polyline", "curves") == 3 * 2
    assert column(text, 4) == ["10", "2", "0.1", "0.03"]  # as numbers, not as text


def test_a_sweep_without_any_figures_has_a_page(browse) -> None:
    text = browse(draw([made(0, None, "pending", lr=0.1), made(1, None, "failed", lr=0.2)]))
    assert "As of " in text
    assert text.count("tick a job that has started</text>") == 3
    assert count(browse(draw([])), "figure", "curves") == 2


def test_choices_have_places_on_an_axis_of_their_own(browse) -> None:
    rows = [made(n, 0.5 + n / 10, model=name, hidden=h) for n, (name, h) in enumerate([("a", [8]), ("b", [8, 8])])]
    text = browse(draw(rows))
    assert count(text, "figure", "axes") == 2
    for label in ("a", "b", "[8]", "[8, 8]"):
        assert f">{label}</text>" in text


def hostile_rows() -> list[Row]:
    rows = [made(n, 0.5 + n / 100, name=text, **{f"model.{text}": text, "lr": n}) for n, text in enumerate(HOSTILE)]
    for row, text in zip(rows, HOSTILE, strict=True):
        row.entry.reason = text
        Path(text.replace("/", "_")[:40]).mkdir(exist_ok=True)
    return rows


def test_names_never_become_html(browse) -> None:
    text = browse(draw(hostile_rows(), words=tuple(HOSTILE)))
    assert "<title>Sweep " in text  # no script of theirs has run
    assert text.count("<script") == 2
    assert "<img" not in text
    assert count(text, "svg", "legend") <= 5


def test_the_file_has_two_scripts_and_loads_nothing() -> None:
    text = draw(hostile_rows(), words=tuple(HOSTILE)).read_text()
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
            tags.append((name, dict(attributes)))

    Reader().feed(text)
    assert [attributes.get("type") for name, attributes in tags if name == "script"] == ["application/json", None]
    assert not {name for name, _ in tags} & {"img", "link", "iframe", "svg", "b", "object"}
    given = [pair for _, attributes in tags for pair in attributes.items()]
    assert [value for name, value in given if name in ("src", "href")] == ["#main"]
    assert not [name for name, _ in given if name.startswith("on")]
    assert "default-src 'none'" in text


def test_the_page_is_updated_every_few_seconds_while_jobs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = 100.0, 0
    monkeypatch.setattr(time, "monotonic", lambda: clock)

    def rows() -> list[Row]:
        nonlocal asked
        asked += 1
        return [made(0, 0.5, lr=0.1)]

    page = Page(Path.cwd(), [], rows)
    page.draw()
    assert asked == 0  # nothing has happened
    for _ in range(20):
        page.stale = True
        page.draw()
    assert asked == 1
    clock += leaderboard_page.EVERY_SECONDS
    page.draw()
    assert asked == 2  # what came too early is not forgotten
    clock += leaderboard_page.EVERY_SECONDS
    page.draw()
    page.draw(now=True)
    assert asked == 3


def test_long_curves_are_thinned() -> None:
    made(0, 0.5)
    rows = [metrics_row(n, train_loss=n, valid_loss=1.0, valid_accuracy=0.5) for n in range(1, 5001)]
    write_metrics(Path("000-x"), rows)
    text = draw([made_again()]).read_text()
    assert len(text) < 30_000
    assert "[1,1.0]" in text
    assert "[5000,5000.0]" in text


def made_again() -> Row:
    """The job whose folder is there already."""
    entry = Entry(0, "id0", "000-x", {"lr": 1}, {"monitor": "valid_accuracy", "epochs": 3}, {}, [], "done")
    return Row(entry, Results("completed", valid={"accuracy": 0.5}))
