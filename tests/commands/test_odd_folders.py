"""Commands on folders that cannot be used: each answers in a sentence, and other runs are not affected."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.runs import exit_code

ODD_RESULTS = ["{}", "[]", "3", '{"status": 3}', '{"status": "completed", "epochs": "x"}', "{", '{"status": null}']
LONG = "x" * 5000


def stored_run(name: str, results: str) -> Path:
    """Write the folder of a run as far as `resume=latest`, `list` and `compare` look."""
    run = Path("outputs/2026-01-01") / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("epochs: 2\n")
    (run / "results.json").write_text(results)
    return run


def test_odd_results_of_a_run_are_named_and_break_no_other_run(train, verb) -> None:
    stopped = train("model=ann", "epochs=2", "max_minutes=0.00001").folder
    broken = [stored_run(f"10-00-0{number}-broken", odd) for number, odd in enumerate(ODD_RESULTS)]  # newer
    listed = verb("list", "runs")
    assert listed.code == 1
    assert stopped.name in listed.out
    assert all(str(run / "results.json") in listed.err for run in broken)
    assert all(verb("compare", str(run), str(stopped)).code == 2 for run in broken)
    resumed = train("resume=latest", "max_minutes=null", "plots=false")
    assert resumed.code == 0
    assert all(f"resume=latest skips a run: {run / 'results.json'}" in resumed.err for run in broken)
    assert (stopped / "results.json").read_text().startswith('{\n  "status": "completed"')


@pytest.mark.parametrize("words", [("train", f"resume={LONG}"), ("train", f"resume=a/{LONG}/b")])
def test_a_name_that_is_too_long_is_answered(words: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*words) == 2
    assert "there is no such folder" in capfd.readouterr().err


@pytest.mark.parametrize("verb_name", ["evaluate", "predict", "report", "compare", "export"])
def test_a_verb_answers_a_name_that_is_too_long(verb_name: str, verb: Callable) -> None:
    more = {"predict": ["x.png"], "compare": [LONG], "export": ["--format", "state_dict"]}.get(verb_name, [])
    done = verb(verb_name, LONG, *more)
    assert done.code == 2
    assert "there is no such" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "words",
    [("train",), ("train", "--help"), ("trainer", "list"), ("trainer", "report", "x"), ("trainer", "doctor")],
)
def test_a_deleted_current_folder_is_named(
    words: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert exit_code(*words) == 2
    assert capfd.readouterr().err == f"{words[0]}: error: the current folder was deleted; change to another one.\n"


@pytest.mark.parametrize("words", [("report",), ("export", "--format", "state_dict")])
def test_a_read_only_disk_is_named(
    words: tuple[str, ...], train, verb: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("model=ann", "epochs=1", "plots=false").folder
    real_open, real_unlink = os.open, os.unlink

    def open_read_only(path: object, flags: int, *more: object, **options: object) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real_open(path, flags, *more, **options)

    def refuse(path: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "open", open_read_only)
    monkeypatch.setattr(os, "unlink", refuse)
    done = verb(words[0], str(run), *words[1:])
    monkeypatch.setattr(os, "open", real_open)
    monkeypatch.setattr(os, "unlink", real_unlink)
    assert done.code == 1
    assert "Read-only file system" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_runs_are_reached_through_links(train, verb: Callable, tmp_path: Path) -> None:
    """`outputs` may be a link, as may the name of a run; messages then show where the files really are."""
    (tmp_path / "scratch").mkdir()
    Path("outputs").symlink_to(tmp_path / "scratch")
    run = train("model=ann", "epochs=1").folder
    assert run.parent.parent == tmp_path / "scratch"
    assert Path("outputs/latest").resolve() == run
    Path("mine").symlink_to(run)
    assert train("resume=outputs/latest", "epochs=2", "plots=false").code == 0
    assert train("resume=mine", "epochs=3", "plots=false").code == 0
    assert train("resume=latest", "epochs=3").code == 2  # it is finished
    for words in (("evaluate",), ("report",), ("export", "--format", "state_dict")):
        for name in ("outputs/latest", "mine"):
            done = verb(words[0], name, *words[1:], *(["--replace"] if words[0] == "export" else []))
            assert done.code == 0, done.err
    assert verb("compare", "mine", "outputs/latest", "--out", "outputs/compare.png").code == 0
    assert run.name in verb("list", "runs").out
    assert {"report.html", "evaluation-1.json", "evaluation-2.json", "model.pt"} <= set(os.listdir(run))
