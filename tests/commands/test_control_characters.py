"""Names with control characters are refused before training, and no command prints them as they are."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from PIL import Image

from helpers.runs import CompletedCommand
from trainer.errors import printable
from trainer.report.console import Console
from trainer.report.sweep_view import SweepView

EVIL = "\x1b[31mred\u202e"
ESCAPED = r"\x1b[31mred\u202e"
TRAIN = ("model=ann", "epochs=1")
IMAGES = ("data=image_folder", "data.size=8", *TRAIN)
TABLE = ("data=csv", "data.path=table.csv", "data.target=y", *TRAIN)

OWN = f"""
import torch
class Own(torch.utils.data.TensorDataset):
    classes = ["a", {EVIL!r}]
    def __init__(self):
        super().__init__(torch.randn(40, 3), torch.arange(40) % 2)
"""

MERGED = f"""
_target_: trainer.data.sources.digits
relabel: {{"{ESCAPED}": [0, 1], others: rest}}
"""


def plain(done: CompletedCommand) -> bool:
    """Return whether each line is printed without control characters."""
    return all(printable(line) == line for line in (done.out + done.err).split("\n"))


def write_images(*classes: str) -> None:
    for label, name in enumerate(classes):
        Path("photos", name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (8, 8), (20 * number, 99 * label, 0)).save(Path("photos", name, f"{number}.png"))


def write_table(*columns: str, target: str = "x") -> None:
    rows = [f"{i},{i % 3},{target if i % 2 else 'z'}" for i in range(40)]
    Path("table.csv").write_text("\n".join([",".join(columns), *rows, ""]))


@pytest.mark.slow
@pytest.mark.parametrize("name", [EVIL, "a\tb", "a\x7f", "a\x9b1m", "a\u2066", "a\u200b", "a\u2028b"])
def test_the_name_of_a_class_is_refused(name: str, train) -> None:
    write_table("a", "b", "y", target=name)
    done = train(*TABLE)
    assert (done.code, done.folder) == (2, None)
    assert f"{name!r}: the name of a class must be UTF-8 text without control characters" in done.err
    assert plain(done)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["école", "赤い", "می‌روم", "👩‍🔬", "a b", "a\u00a0b", "=1+1"])
def test_other_names_are_taken(name: str, train, verb) -> None:
    write_table("a", name, "y", target=name)
    done = train(*TABLE)
    assert done.code == 0, done.err
    assert verb("evaluate", done.folder).code == 0


def test_a_spreadsheet_does_not_run_the_names_of_classes(train, verb) -> None:
    write_table("a", "b", "y", target="=1+1")
    run = train(*TABLE).folder
    assert verb("predict", run, "table.csv", "--out", "p.csv").code == 0
    with open("p.csv", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} <= {"'=1+1", "z"}
    assert "'=1+1" in Path("p.csv").read_text()
    assert verb("predict", run, "table.csv", "--out", "p.json").code == 0
    assert '"=1+1"' in Path("p.json").read_text()


@pytest.mark.slow
def test_names_of_class_folders_columns_and_merged_classes_are_refused(train, verb) -> None:
    write_images("a", EVIL, os.fsdecode(b"\xff"))
    write_table("a", EVIL, "y")
    Path("own.py").write_text(OWN)
    Path("conf/data").mkdir(parents=True)
    Path("conf/data/merged.yaml").write_text(MERGED)
    for words, key in (
        ((*IMAGES, "data.root=photos"), "photos: "),
        (TABLE, "data.path=table.csv: "),
        (("data=merged", *TRAIN), "data.relabel: "),
        (("data=custom", "data._target_=own.Own", *TRAIN), "data: "),
    ):
        done = train(*words)
        assert (done.code, done.folder) == (2, None), done.out
        assert key in done.err
        assert ESCAPED in done.err
        assert plain(done)
        assert plain(verb("doctor", *words, "--no-training"))


@pytest.mark.slow
def test_names_of_files_are_printed_without_control_characters(train, verb) -> None:
    write_images("a", "b")
    names = [f"{EVIL}.png", os.fsdecode(b"\xff\xfe.png")]
    for number, name in enumerate(names):
        os.rename(f"photos/a/{number}.png", f"photos/a/{name}")
    done = train(*IMAGES, "data.root=photos")
    assert done.code == 0, done.err
    assert plain(done)
    assert all(printable(line) == line for line in (done.folder / "train.log").read_text().split("\n"))
    for words in (
        ("predict", done.folder, "photos"),
        ("predict", done.folder, "photos", "--out", f"{EVIL}.csv"),
        ("evaluate", done.folder),
        ("export", done.folder, "--format", "state_dict", "--out", f"{EVIL}.pt"),
    ):
        shown = verb(*words)
        assert shown.code == 0, shown.err
        assert plain(shown)
    for name in names:
        Path("photos/a", name).write_bytes(b"not an image")
    for refused in (train(*IMAGES, "data.root=photos"), verb("doctor", *IMAGES, "data.root=photos", "--no-training")):
        assert refused.code in (1, 2)
        assert plain(refused)


def test_lines_on_the_terminal_and_in_the_log_have_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(Path("train.log"))
    for write in (console.say, console.note, lambda text: console.header([("data", text)])):
        write(EVIL)
        out, err = capfd.readouterr()
        assert "[31mred" in out + err
        assert plain(CompletedCommand(0, out, err, None))
    console.close()
    assert plain(CompletedCommand(0, Path("train.log").read_text(), "", None))
    SweepView(1, Path(EVIL)).begin(EVIL)
    assert plain(CompletedCommand(0, capfd.readouterr().out, "", None))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        (f"model={EVIL}",),
        (f'model="{EVIL}"',),
        (f'data.root="{EVIL}"', "data=image_folder"),
        (f'name="{EVIL}"', "epochs=1"),
        (f"--{EVIL}",),
        ("--cfg", "job", 'data.root="x\u202e\x7f"', "data=image_folder"),
        ("optim.lr=\udcff",),
        ("--help",),
    ],
)
def test_words_of_train_are_printed_without_control_characters(words: tuple[str, ...], train) -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model", f"{EVIL}.yaml").write_text(f"# {EVIL}\n_target_: torch.nn.Linear\n")
    assert plain(train(*words))


@pytest.mark.parametrize(
    "words", [(EVIL,), ("list", EVIL), ("list", "model"), ("report", EVIL), ("predict", EVIL, "x"), ("init", EVIL)]
)
def test_words_of_verbs_are_printed_without_control_characters(words: tuple[str, ...], verb) -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model", f"{EVIL}.yaml").write_text(f"# {EVIL}\n_target_: torch.nn.Linear\n")
    assert plain(verb(*words))
