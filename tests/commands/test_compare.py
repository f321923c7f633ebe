"""`trainer compare` and `trainer list`: they show exactly the differences, and do not import torch."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from helpers.processes import run_without
from helpers.runs import train_in
from trainer.config import catalog
from trainer.config.catalog import shipped_conf
from trainer.errors import UserError, printable
from trainer.records import compare, record


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    words = ("data=iris", "model=mlp", "plots=false", "epochs=2")
    return [
        train_in(folder, *words),
        train_in(folder, *words, "optim=sgd", "optim.lr=0.05", "model.hidden=[8]", "device=cpu"),
        train_in(folder, *words, "seed=3"),
    ]


def test_only_what_was_changed_is_told(runs: list[Path]) -> None:
    found = compare.changed([record.read(run) for run in runs])
    assert set(found) == {"optim", "optim.lr", "model.hidden", "seed"}
    assert found["optim"] == ["adamw", "sgd", "adamw"]
    assert found["optim.lr"][1] == "0.05"
    assert found["seed"] == ["0", "0", "3"]
    assert compare.changed([record.read(runs[0])] * 2) == {}


def test_differences_are_those_of_the_results(runs: list[Path]) -> None:
    results = [json.loads((run / "results.json").read_text()) for run in runs]
    rows = {row[0]: row[1:] for row in compare.figure_rows([record.read(run) for run in runs])}
    first, second, _ = (r["test"]["loss"] for r in results)
    assert rows["test loss"][0].split()[0] == f"{first:.4f}"
    assert rows["test loss"][1].split()[:2] == [f"{second:.4f}", f"({second - first:+.4f})"]
    counts = [r["parameters"]["total"] for r in results]
    assert rows["parameters"] == [
        f"{counts[0]:,}",
        f"{counts[1]:,} ({counts[1] - counts[0]:+,})",
        f"{counts[2]:,} (+0)",
    ]
    losses = [r["test"]["loss"] for r in results]
    assert [text.endswith("*") for text in rows["test loss"]] == [loss == min(losses) for loss in losses]
    accuracies = [r["valid"]["accuracy"] for r in results]
    if len(set(accuracies)) > 1:
        assert [t.endswith("*") for t in rows["valid accuracy"]] == [a == max(accuracies) for a in accuracies]
    assert "test threshold" not in rows


def test_lengths_are_steps_if_a_run_ended_inside_an_epoch(runs: list[Path]) -> None:
    whole = record.read(runs[0])
    inside = replace(whole.results, epochs=0, steps=5, best_epoch=0, best_step=5, steps_per_epoch=8)
    rows = {row[0]: row[1:] for row in compare.figure_rows([whole, replace(whole, results=inside)])}
    assert not {"epochs", "best epoch"} & set(rows)
    assert (rows["steps"][0], rows["best step"][1].split()[0]) == (f"{whole.results.steps:,}", "5")
    assert "epochs" in {row[0] for row in compare.figure_rows([whole, whole])}


def test_tables_and_picture(runs: list[Path], verb) -> None:
    done = verb("compare", *map(str, runs), "--out", "three.png")
    assert done.code == 0
    out = done.out
    assert re.search(r"^optim +adamw +sgd +adamw$", out, re.MULTILINE)
    assert re.search(r"^test accuracy +\d\.\d{4}", out, re.MULTILINE)
    assert "split their data differently" in out
    with Image.open("three.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").resize((200, 100)).getcolors(20_000)) > 20


def test_runs_of_different_data_are_told_apart(runs: list[Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs[0], tmp_path / "other"))
    results = json.loads((other / "results.json").read_text())
    (other / "results.json").write_text(json.dumps({**results, "data_fingerprint": "0" * 32}))
    assert "different data" in compare.notes([record.read(runs[0]), record.read(other)])[0]
    (other / "results.json").unlink()
    assert compare.notes([record.read(runs[0]), record.read(other)]) == [f"{other}: broken off"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{0}"], "expected two runs or more"),
        (["{0}", "nowhere"], "nowhere: expected a run folder, but there is no such folder"),
        (["{0}", "."], ".: expected a run folder, but it has no config.yaml"),
        (["{0}", "{1}", "--out", "no/such/folder.png"], "--out no/such/folder.png: the picture cannot be written"),
        (["{0}", "{1}", "--out", "x.docx"], "--out x.docx: the picture cannot be written"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_one_sentence(words: list[str], sentence: str, runs: list[Path], verb) -> None:
    done = verb("compare", *(word.format(*runs) for word in words))
    assert done.code == 2
    err = done.err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_hostile_run_can_neither_run_nor_read_nor_steer(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb
) -> None:
    monkeypatch.setenv("A_SECRET", "swordfish")
    evil = Path(shutil.copytree(runs[0], tmp_path / "evil"))
    tree = yaml.safe_load((evil / "config.yaml").read_text())
    tree["model"]["_target_"] = "os.system"
    tree["model"]["command"] = "touch canary"
    tree["optim"]["lr"] = "${oc.env:A_SECRET}"
    tree["name"] = tree["data"]["path"] = "\x1b]0;title\x07[bold]"
    first = (runs[0] / "config.yaml").read_text().splitlines()[0]
    (evil / "config.yaml").write_text(first + "\n" + yaml.safe_dump(tree))
    results = json.loads((evil / "results.json").read_text())
    results["test"]["\x1b[2J"] = 1.0
    (evil / "results.json").write_text(json.dumps(results | {"status": "\x1b[31m"}))
    done = verb("compare", str(runs[0]), str(evil))
    assert done.code == 0
    out, err = done.out, done.err
    assert "\x1b" not in out + err
    assert "swordfish" not in out + err
    assert "${oc.env:A_SECRET}" in out
    assert not Path("canary").exists()
    (evil / "config.yaml").write_text("a: &a [1]\nb: [*a]\n")
    done = verb("compare", str(runs[0]), str(evil))
    assert done.code == 2
    assert "aliases" in done.err


# ---------------------------------------------------------------------------------------------------------------- list


def test_every_shipped_yaml_says_what_it_is() -> None:
    for group, options in catalog.groups([shipped_conf()]).items():
        for option, path in options:
            assert catalog.first_line(path), f"{group}={option}"


@pytest.mark.parametrize(
    ("words", "shown", "hidden"),
    [
        (["models"], "model=lenet5", "optim="),
        (["optimizers"], "optim=adamw", "model="),
        (["losses"], "loss=mse", "model="),
        (["data"], "data=iris", "optim="),
        ([], "schedule=cosine", "hydra"),
    ],
)
def test_groups_are_listed(words: list[str], shown: str, hidden: str, verb) -> None:
    done = verb("list", *words)
    assert done.code == 0
    out = done.out
    assert shown in out
    assert hidden not in out


def test_own_yaml_is_listed_and_named(verb) -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/mine.yaml").write_text("# What I made\n_target_: mymodule.Net\n")
    Path("conf/model/lenet5.yaml").write_bytes(b"\xff\xfe")
    done = verb("list", "model")
    assert done.code == 0
    lines = done.out.splitlines()
    (mine,) = (line for line in lines if line.startswith("model=mine "))
    assert re.fullmatch(r"model=mine +What I made  \(.*conf/model/mine.yaml\)", mine)
    assert any("not readable" in line for line in lines if line.startswith("model=lenet5 "))


def test_no_comment_steers_the_terminal(verb) -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/evil.yaml").write_text("# red \x1b[31m, a bell \x07 and \u202edetrevni\n_target_: mymodule.Net\n")
    done = verb("list", "model")
    assert done.code == 0
    (line,) = (line for line in done.out.splitlines() if line.startswith("model=evil"))
    assert "red \ufffd[31m, a bell \ufffd and \ufffddetrevni" in line


def test_what_a_terminal_is_shown() -> None:
    """Writing of any language stays as it is; a line stays one line."""
    plain = "na\u00efve \u732b \u0928\u092e\u0938\u094d\u0924\u0947 \U0001f469\u200d\U0001f52c a\u00a0b"
    assert printable(plain) == plain
    assert printable("a\tb\r\nc\u2028d") == "a b  c d"
    assert printable("\x1b[2J\x9b1m\x7f\ud800") == "\ufffd[2J\ufffd1m\ufffd\ufffd"


def test_an_unknown_group_is_answered(verb) -> None:
    done = verb("list", "modle")
    assert done.code == 2
    assert "modle: no such group. Did you mean model?" in done.err


def test_runs_are_listed_newest_first(runs: list[Path], verb) -> None:
    outputs = runs[0].parent.parent
    done = verb("list", "runs", "--outputs", str(outputs))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["run", "status", "epochs", "monitor", "best", "test"]
    assert [line.split()[0] for line in lines[1:]] == sorted(str(outputs / r.relative_to(outputs)) for r in runs)[::-1]
    value = json.loads((runs[2] / "results.json").read_text())["valid"]["loss"]
    assert lines[1].split()[1:5] == ["completed", "2", "valid_loss", f"{value:.4f}"]


def test_runs_that_are_not_whole_are_told(runs: list[Path], tmp_path: Path, verb) -> None:
    day = tmp_path / "outputs" / "2026-01-01"
    for name in ("10-00-00-good", "11-00-00-torn", "12-00-00-stopped"):
        shutil.copytree(runs[0], day / name)
    (day / "11-00-00-torn" / "results.json").write_text('{"status"')
    (day / "12-00-00-stopped" / "results.json").unlink()
    (day / "13-00-00-sweep").mkdir()
    (day / "13-00-00-sweep" / "sweep.jsonl").write_text("[" * 9000 + "\n")
    done = verb("list", "runs")
    assert done.code == 1
    out, err = done.out, done.err
    assert re.search(r"12-00-00-stopped +broken off", out)
    assert re.search(r"10-00-00-good +completed", out)
    assert err.count("\n") == 2
    assert "11-00-00-torn/results.json: not readable" in err


def test_links_and_pipes_of_others_are_not_followed(runs: list[Path], tmp_path: Path, verb) -> None:
    day = tmp_path / "outputs" / "2026-01-01"
    one, two = (Path(shutil.copytree(runs[0], day / name)) for name in ("1-link", "2-pipe"))
    (tmp_path / "private.json").write_text('{"status": "swordfish"}')
    for run in (one, two):
        (run / "results.json").unlink()
    (one / "results.json").symlink_to(tmp_path / "private.json")
    os.mkfifo(two / "results.json")
    (day / "3-sweep").mkdir()
    os.mkfifo(day / "3-sweep" / "sweep.jsonl")
    done = verb("list", "runs")
    assert done.code == 1
    out, err = done.out, done.err
    assert "swordfish" not in out + err
    assert err.count("\n") == 3


@pytest.mark.usefixtures("no_hang")
def test_no_pipe_is_waited_for(runs: list[Path], verb) -> None:
    """A lock, or a YAML, that is a named pipe: opening it would never return."""
    run = Path(shutil.copytree(runs[0], "outputs/2026-01-01/1-pipe"))
    (run / "results.json").unlink()
    (run / "run.lock").unlink(missing_ok=True)
    os.mkfifo(run / "run.lock")
    assert verb("report", str(run)).code == 0
    assert "broken off" in (run / "report.html").read_text()
    assert verb("compare", str(run), str(runs[0])).code == 0
    done = verb("list", "runs")
    assert done.code == 0
    assert re.search(r"1-pipe +broken off", done.out)
    Path("conf/model").mkdir(parents=True)
    os.mkfifo("conf/model/pipe.yaml")
    done = verb("list", "models")
    assert done.code == 0
    assert re.search(r"model=pipe +\(not readable: not a regular file\)", done.out)


def test_without_outputs(verb) -> None:
    done = verb("list", "runs")
    assert done.code == 2
    assert "there are no runs yet" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("words", [["list"], ["list", "runs"], ["report", "--help"], ["compare", "{0}", "{1}"]])
def test_no_torch_is_imported(words: list[str], runs: list[Path]) -> None:
    done = run_without(["torch"], *(word.format(*runs) for word in words), cwd=runs[0].parents[2])
    assert done.returncode == 0, done.stderr


def test_a_sweep_is_a_line_of_its_own(sweep, verb) -> None:
    assert sweep("-m", "data=iris", "model=mlp", "threads=1", "seed=0,1", "epochs=1").code == 0
    done = verb("list", "runs")
    assert done.code == 0
    (line,) = done.out.splitlines()[1:]
    assert re.search(r"-sweep\S* +2 done +valid_loss +\d\.\d{4}", line), line


def test_the_group_of_a_name() -> None:
    known = catalog.groups([shipped_conf()])
    assert [catalog.group_of(n, known) for n in ("model", "models", "schedules", "losses")] == [
        "model",
        "model",
        "schedule",
        "loss",
    ]
    with pytest.raises(UserError):
        catalog.group_of("nothing", known)
