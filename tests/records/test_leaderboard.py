"""The leaderboard's order, its statistics against scipy, and the terminal output of a sweep."""

from __future__ import annotations

import csv
import math
import os
import pty
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from helpers.processes import HANG_SECONDS
from helpers.runs import CompletedCommand
from helpers.sweeps import TINY, rows, table
from trainer.data.metrics import SplitReport
from trainer.records import leaderboard
from trainer.records.leaderboard import Group, Row, group_table, grouped, ranked, winners
from trainer.records.ledger import Entry
from trainer.records.results import Results


def row(number: int, value: float | None, state: str = "done", monitor: str = "valid_loss", **varies: Any) -> Row:
    entry = Entry(number, f"id{number}", f"{number:03}-x", varies, {"monitor": monitor, "epochs": 3}, {}, [], state)
    part, _, name = monitor.partition("_")
    results = Results("completed", epochs=3, best_epoch=2, seconds={"total": 0.5})
    return Row(entry, None if value is None else replace(results, **{part: {name: value}}))


def order(rows: list[Row]) -> list[int]:
    return [row.entry.number for row in ranked(rows)]


@pytest.mark.parametrize("count", [2, 3, 5, 30])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_mean_deviation_and_interval_are_scipys(count: int, scale: float) -> None:
    values = (np.random.default_rng(count).normal(3, 1, count) * scale).tolist()
    (group,) = grouped([row(n, value, seed=n, lr=0.1) for n, value in enumerate(values)])
    assert group.varies == {"lr": 0.1}
    assert len(group.values) == count
    assert group.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert group.std == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
    assert group.interval == pytest.approx((high - low) / 2, rel=1e-7)


def test_groups_are_settings_over_their_seeds_and_folds() -> None:
    found = grouped([
        row(0, 0.5, lr=0.1, seed=0), row(1, 0.3, lr=0.1, seed=1), row(2, 0.1, lr=0.2, seed=0),
        row(3, 0.4, lr=0.3, seed=0), row(4, 0.2, "pruned", lr=0.4, seed=0),
        row(5, 0.9, lr=0.1, seed=0, **{"data.fold": 1}), row(6, 0.7, lr=0.1, **{"data.seed": 3}),
    ])  # fmt: skip
    assert [(group.varies, group.values, group.missing) for group in found] == [
        ({"lr": 0.2}, [0.1], 0),
        ({"lr": 0.3}, [0.4], 0),
        ({"lr": 0.1}, [0.5, 0.3, 0.9, 0.7], 0),
        ({"lr": 0.4}, [], 1),
    ]
    assert (found[0].std, found[0].interval) == (None, None)
    assert grouped([row(0, 0.5, lr=0.1), row(1, 0.5, lr=0.2)]) == []  # nothing was repeated
    assert grouped([row(0, 0.5, seed=0), row(1, 0.5, monitor="valid_accuracy", seed=1)]) == []
    best = grouped([row(n, value, monitor="valid_accuracy", lr=n % 2) for n, value in enumerate((0.1, 0.5, 0.2, 0.7))])
    assert [group.varies for group in best] == [{"lr": 1}, {"lr": 0}]
    equal = grouped([row(n, 0.25, lr=1, seed=n) for n in range(3)])[0]
    assert (equal.mean, equal.std, equal.interval) == (0.25, 0.0, 0.0)


def numbers(rows: list[Row]) -> list[int]:
    return [row.entry.number for row in winners(rows, grouped(rows))]


def test_the_winner_is_the_setting_of_the_best_mean_with_all_its_jobs() -> None:
    lucky = [row(0, 0.1, lr=0.1, seed=0), row(1, 0.9, lr=0.1, seed=1)]
    steady = [row(2, 0.3, lr=0.2, seed=0), row(3, 0.4, lr=0.2, seed=1)]
    assert numbers(lucky + steady) == [2, 3]
    assert numbers([*lucky, row(4, 0.05, lr=0.3, seed=0)]) == [4]  # its mean, if one value can have one
    assert numbers([row(0, 0.1, "failed", lr=0.1), row(1, 0.9, lr=0.2), row(2, 0.8, lr=0.3)]) == [2]
    assert numbers([row(0, None, "failed", lr=0.1)]) == []
    assert numbers([]) == []


@pytest.mark.parametrize("state", ["failed", "diverged", "pruned", "interrupted", "pending"])
def test_a_setting_that_lacks_a_job_is_behind_those_that_are_whole(state: str) -> None:
    torn = [row(0, 0.1, lr=0.1, seed=0), row(1, 0.1, state, lr=0.1, seed=1)]
    whole = [row(2, 0.3, lr=0.2, seed=0), row(3, 0.4, lr=0.2, seed=1)]
    assert numbers(torn + whole) == [2, 3]
    assert numbers([*torn, row(2, 0.3, lr=0.2, seed=0), row(3, None, state, lr=0.2, seed=1)]) == [0]
    header, cells = group_table(grouped(torn + whole), "valid_loss")
    assert [cell[header.index("missing")] for cell in cells] == [None, 1]
    assert "missing" not in group_table(grouped(whole), "valid_loss")[0]


def standings(values: dict[float, list[float]], *, alike: bool = True, drawn: bool = False) -> dict[float, str]:
    """Return the standing of each setting; seeds are the same in every setting, or all different.

    With `drawn`, each setting is the draw of a trial of its own.
    """
    rows = [
        row(1000 * n + seed, value, lr=lr, seed=seed + (0 if alike else 1000 * n), **({"trial": n} if drawn else {}))
        for n, (lr, found) in enumerate(values.items())
        for seed, value in enumerate(found)
    ]
    return {group.varies["lr"]: group.standing for group in grouped(rows)}


@pytest.mark.slow
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("alike", [True, False])
def test_settings_are_tied_where_scipy_cannot_tell_them_apart(alike: bool, drawn: bool) -> None:
    random = np.random.default_rng(3)
    seen = set()
    for _ in range(40):
        seeds = random.normal(0, 1, 5)
        settings = {lr: (seeds + random.normal(lr, 0.5, 5)).tolist() for lr in (1.0, 1.2, 1.6, 3.0)}
        best = min(settings, key=lambda lr: np.mean(settings[lr]))
        found = standings(settings, alike=alike, drawn=drawn)
        assert found.pop(best) == "best"
        for lr, standing in found.items():
            test = stats.ttest_rel if alike else stats.ttest_ind
            p = test(settings[lr], settings[best], **({} if alike else {"equal_var": False})).pvalue
            assert standing == ("tied" if p >= 0.05 else "")
            seen.add(standing)
    assert seen == {"tied", ""}


def test_of_single_values_nothing_is_said_and_equal_ones_are_tied() -> None:
    assert standings({1: [0.1, 0.2], 2: [0.16]}) == {1: "best", 2: ""}
    assert standings({1: [0.1, 0.2], 2: [0.14]}) == {1: "", 2: "best"}
    assert standings({1: [0.1, 0.1], 2: [0.1, 0.1], 3: [0.2, 0.2]}) == {1: "best", 2: "tied", 3: ""}
    assert standings({1: [0.1, 0.1], 2: [0.1, 0.1], 3: [0.2, 0.2]}, alike=False) == {1: "best", 2: "tied", 3: ""}
    assert standings({1: [0.1, 0.3], 2: [0.2, 0.2, 0.3]}) == {1: "best", 2: "tied"}  # not repeated alike
    assert Group({}, [row(0, None, "failed")]).tied(Group({}, [row(1, 0.5)])) is False


def test_jobs_that_broke_off_do_not_count_in_the_statistics_of_a_setting() -> None:
    broken = [row(2, 9.0, "failed", seed=2), row(3, 7.0, "diverged", seed=3)]
    found = grouped([row(0, 0.5, seed=0), row(1, 0.5, seed=1), *broken])
    assert found[0].values == [0.5, 0.5]


def test_the_order_is_by_value_then_by_number_and_what_has_none_comes_last() -> None:
    assert order([row(0, 0.5), row(1, None, "failed"), row(2, 0.25), row(3, 0.5), row(4, None, "pending")]) == [
        2,
        0,
        3,
        1,
        4,
    ]
    assert order([row(n, value, monitor="valid_accuracy") for n, value in enumerate((0.1, 0.9, None, 0.0))]) == [
        1,
        0,
        3,
        2,
    ]
    assert order([row(0, 0.0), row(1, -0.0), row(2, -1.0)]) == [2, 0, 1]
    assert order([row(0, 0.1, "pruned"), row(1, 0.9), row(2, None, "diverged")]) == [1, 0, 2]
    mixed = [row(0, 0.9), row(1, 0.1, monitor="valid_accuracy"), row(2, 0.8), row(3, 0.2, monitor="valid_accuracy")]
    assert order(mixed) == [2, 0, 3, 1]


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_a_job_that_is_not_done_is_not_first(state: str) -> None:
    assert order([row(0, 0.1, state), row(1, 0.9)]) == [1, 0]


def test_the_file_has_a_line_for_each_job_and_no_nan() -> None:
    found = [row(0, 0.5, lr=0.1), row(1, None, "failed", lr=0.1, hidden=8), row(2, 0.25, lr=None, hidden=[8, 8])]
    found[1].entry.reason = 'ValueError: "no", a,\nb'
    leaderboard.write(Path(), found)
    with open("leaderboard.csv", newline="") as file:
        read = list(csv.DictReader(file))
    columns = ["rank", "job", "state", "lr", "hidden", "valid_loss", "best_epoch", "trained", "test", "seconds"]
    assert list(read[0]) == [*columns, "reason"]
    assert [line["job"] for line in read] == ["002-x", "000-x", "001-x"]
    assert [line["valid_loss"] for line in read] == ["0.25", "0.5", ""]
    assert read[2]["reason"] == 'ValueError: "no", a,\nb'
    assert "nan" not in Path("leaderboard.csv").read_text().lower()
    assert not Path("leaderboard_groups.csv").exists()


def test_a_best_validation_inside_an_epoch_has_its_step_instead_of_an_epoch() -> None:
    inside, end = row(0, 0.5), row(1, 0.6)
    inside.results = replace(inside.results, best_epoch=0, best_step=5, steps_per_epoch=8)
    end.results = replace(end.results, best_epoch=2, best_step=16, steps_per_epoch=8)
    header, cells = leaderboard.table([inside, end], [])
    at = header.index("best_epoch")
    assert header[at + 1] == "best_step"
    assert [cell[at : at + 2] for cell in cells] == [[None, 5], [2, None]]
    assert "best_step" not in leaderboard.table([end], [])[0]


def test_a_sweep_over_seeds_has_its_statistics_written(sweep) -> None:
    done = sweep("-m", *TINY, "optim.lr=1e-3,1e-2", "seed=range(3)", "epochs=1", "test=false")
    read = table(done.folder)
    groups = rows(done.folder / "leaderboard_groups.csv")
    for group in groups:
        values = [float(line["valid_loss"]) for line in read if line["optim.lr"] == group["optim.lr"]]
        assert float(group["mean valid_loss"]) == pytest.approx(np.mean(values))
        assert float(group["std"]) == pytest.approx(np.std(values, ddof=1))
        half = stats.t.ppf(0.975, 2) * stats.sem(values)
        assert float(group["95 % interval +-"]) == pytest.approx(half)
        assert group["n"] == "3"
    means = [float(group["mean valid_loss"]) for group in groups]
    assert means == sorted(means)
    assert not any(math.isnan(mean) for mean in means)


def test_off_a_terminal_there_are_plain_lines_and_every_job_is_told(sweep) -> None:
    done = sweep("-m", *TINY, "optim=sgd", "optim.lr=1e-2,1e30", "seed=0,1", "epochs=1")
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out
    assert all(line.startswith("train: error: ") for line in done.err.splitlines())
    for number, state in enumerate(("done", "done", "diverged", "diverged")):
        assert re.search(rf"^job +{number} +{state} .*optim.lr=\S+ seed={number % 2}$", done.out, re.MULTILINE)
    last = done.out[done.out.index("rank") :]
    assert len(re.findall(r"^ +\d +(done|diverged) ", last, re.MULTILINE)) == 4


def on_a_terminal(server, *words: str) -> tuple[CompletedCommand, str]:
    """The command, and all that it wrote to its terminal."""
    keyboard, terminal = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                more = os.read(keyboard, 4096)
            except OSError:
                return
            if not more:
                return
            shown.extend(more)

    reader = threading.Thread(target=read)
    reader.start()
    done = server.start(*words, terminal=os.ttyname(terminal), TERM="xterm-256color", COLUMNS="100").end()
    os.close(terminal)
    reader.join(timeout=HANG_SECONDS)
    os.close(keyboard)
    return done, shown.decode()


def test_on_a_terminal_there_is_a_bar_and_a_line_for_each_worker(server) -> None:
    words = ("-m", *TINY, "epochs=80", "patience=null", "sweep.workers=2")
    done, text = on_a_terminal(server, *words, "seed=0,1,2,3")
    assert done.code == 0
    assert done.err == ""
    assert "\u2501" in text
    assert re.search(r"[1-3]/4", text)
    assert re.search(r"  +[0-3]  epoch \d+, valid_accuracy 0\.\d+  seed=\d", text)
    assert "Traceback" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is back
    more, text = on_a_terminal(server, "-m", f"resume={done.folder}", "seed=range(7)")
    assert more.code == 0
    assert "4/7" in text  # what is finished counts from the start
    assert "0/7" not in text


@pytest.mark.parametrize(("test", "shown"), [("auto", [0.25, None]), (True, [0.25, 0.75]), (False, [0.25, 0.75])])
def test_only_winners_show_a_test_that_was_chosen_by_the_program(test: object, shown: list[float | None]) -> None:
    both = [row(0, 0.1), row(1, 0.2)]
    for each, loss in zip(both, (0.25, 0.75), strict=True):
        each.entry.stored["test"] = test
        each.results = replace(each.results or Results(""), test=SplitReport({"accuracy": loss}))
    header, cells = leaderboard.table(both, [])
    assert [line[header.index("test")] for line in cells] == shown
