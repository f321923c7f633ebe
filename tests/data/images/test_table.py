"""Tables that name image files: which files are read, with which targets, and how each fault of a table is reported."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from helpers.datasets import write_images
from trainer.data.dataset import load
from trainer.data.images.folder import image_folder
from trainer.data.images.table import image_table
from trainer.data.source import Source
from trainer.errors import UserError

FILES = [f"{name}/{i:03}.png" for name in ("ant", "bee") for i in range(6)]


@pytest.fixture(autouse=True)
def photos() -> Path:
    """Two classes of six images, and beside them a table in the order of the folder."""
    root = write_images(Path("photos"), {"ant": 6, "bee": 6})
    write_rows(("file", "label"), ((file, file[:3]) for file in FILES))
    return root


def write_rows(header: Iterable[str], rows: Iterable[Iterable[object]], path: str = "photos/labels.csv") -> None:
    Path(path).parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def table(path: str = "photos/labels.csv", image: str = "file", target: str = "label", **words) -> Source:
    return image_table(path, image, target, **words)


def refusal(**words) -> list[str]:
    with pytest.raises(UserError) as raised:
        table(**words)
    return [str(problem) for problem in raised.value.problems]


# The same as a folder


def test_a_table_is_the_folder_that_it_names() -> None:
    folder, named = image_folder("photos"), table()
    assert named.classes == folder.classes
    assert named.fingerprint == folder.fingerprint
    assert torch.equal(named.splits["train"].targets, folder.splits["train"].targets)
    assert torch.equal(named.splits["train"].take(torch.arange(12)), folder.splits["train"].take(torch.arange(12)))
    assert named.notes == ["predicts label: binary (2 different values; data.task overrides it)"]


def test_a_run_on_a_table_is_the_run_on_its_folder(train) -> None:
    words = ["model=ann", "epochs=2", "batch_size=4", "data.channels=1", "data.size=[6,8]"]
    folder = train("data=image_folder", "data.root=photos", *words)
    named = train("data=image_table", "data.path=photos/labels.csv", "data.image=file", "data.target=label", *words)
    assert named.code == 0, named.err
    for key in ("train", "valid", "test", "data_fingerprint"):
        assert named.results[key] == folder.results[key]
    same, other = trainer.load(folder.folder), trainer.load(named.folder)
    assert torch.equal(same.predict("photos/bee/001.png"), other.predict("photos/bee/001.png"))


def test_a_run_resumes_and_is_evaluated_from_another_place(train, verb) -> None:
    words = ["data=image_table", "data.path=photos/labels.csv", "data.image=file", "data.target=label"]
    stopped = train(*words, "model=ann", "epochs=2", "batch_size=4", "max_steps=1")
    Path("photos").rename("moved")
    missing = train(f"resume={stopped.folder}", "max_steps=null")
    assert (missing.code, "photos/labels.csv: no such file" in missing.err) == (2, True)
    done = train(f"resume={stopped.folder}", "data.path=moved/labels.csv", "max_steps=null")
    assert done.code == 0, done.err
    Path("some.csv").write_text("file,label\nant/000.png,ant\nant/001,ant\n")  # one of the classes
    evaluated = verb("evaluate", str(done.folder), "data.path=some.csv", "data.root=moved")
    assert evaluated.code == 0, evaluated.err
    assert "accuracy" in evaluated.out


# Names of files


def test_suffixes_folders_and_the_root() -> None:
    write_rows(("file", "label"), ((file[:-4], file[:3]) for file in FILES), "table.csv")
    expected = table().fingerprint
    assert table("table.csv", root="photos").fingerprint == expected
    absolute = os.path.abspath("photos")
    write_rows(("file", "label"), ((f"{absolute}/./{file}", file[:3]) for file in FILES))
    assert table().fingerprint == expected
    Path("link").symlink_to("photos")
    assert table("link/labels.csv").fingerprint == expected
    write_rows(("file", "label"), ((f"{os.path.abspath('link')}/{file}", file[:3]) for file in FILES), "link/x.csv")
    assert table("link/x.csv").fingerprint == expected
    write_rows(("file", "label"), ((f"bee/../{file}", file[:3]) for file in FILES))
    assert table().fingerprint == expected


def test_a_name_without_suffix_stands_for_one_file() -> None:
    Image.new("RGB", (8, 8)).save("photos/ant/000.jpg")
    Path("photos/ant/001.txt").write_text("not an image")
    write_rows(("file", "label"), ((file[:-4], file[:3]) for file in FILES))
    assert refusal()[0] == (
        "photos/labels.csv: row 2: photos/ant/000 (class ant): more than one file: 000.jpg, 000.png."
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.png", "leads outside data.root"),
        ("ant/../../secret.png", "leads outside data.root"),
        ("..", "leads outside data.root"),
        ("/etc/passwd", "leads outside data.root"),
        ("out.png", "is a symbolic link that leads outside data.root; data.follow_links=true"),
        ("out/secret.png", "leads outside data.root through a symbolic link; data.follow_links=true"),
        ("out/secret", "leads outside data.root through a symbolic link; data.follow_links=true"),
    ],
)
def test_no_name_leads_outside(name: str, reason: str) -> None:
    Image.new("RGB", (8, 8)).save("secret.png")
    Path("photos/out.png").symlink_to("../secret.png")
    Path("photos/out").symlink_to("..")
    write_rows(("file", "label"), [*((file, file[:3]) for file in FILES), (name, "ant")])
    assert refusal(on_bad_image="skip") == [f"photos/labels.csv: row 14, column file: {name!r} {reason}."]


def test_links_that_lead_outside_are_followed_on_request() -> None:
    expected = table().fingerprint
    Path("photos/ant").rename("elsewhere")
    Path("photos/ant").symlink_to("../elsewhere")
    Path("photos/bee/000.png").rename("000.png")
    Path("photos/bee/000.png").symlink_to("../../000.png")
    assert table(follow_links=True).fingerprint == expected
    write_rows(("file", "label"), [*((file, file[:3]) for file in FILES), ("../000.png", "ant")])
    assert "'../000.png' leads outside data.root." in refusal(follow_links=True)[0]


def test_files_that_are_missing_or_damaged_are_named_with_their_rows() -> None:
    os.mkfifo("photos/pipe.png")  # opening it would never return
    Path("photos/bee/005.png").write_bytes(b"")
    names = ["ant/000.PNG", "ant/none.png", "http://x.org/1.png", "ant\\001.png", "pipe.png", "ant", "x\0y", "bee/none"]
    write_rows(("file", "label"), [*((file, file[:3]) for file in FILES), *((name, "ant") for name in names)])
    assert refusal() == [
        "photos/labels.csv: row 14: photos/ant/000.PNG (class ant): no such file; there is 000.png.",
        "photos/labels.csv: row 15: photos/ant/none.png (class ant): no such file.",
        "photos/labels.csv: row 16: photos/http://x.org/1.png (class ant): a URL; expected the path of a file.",
        "photos/labels.csv: row 17: photos/ant\\001.png (class ant): no such file; separate folders by /.",
        "photos/labels.csv: row 18: photos/pipe.png (class ant): not a regular file.",
        "photos/labels.csv: row 19: photos/ant (class ant): not a regular file.",
        "photos/labels.csv: row 20: photos/x\0y (class ant): not the path of a file.",
        "photos/labels.csv: row 21: photos/bee/none (class ant): no such file.",
        "photos/labels.csv: row 13: photos/bee/005.png (class bee): not a readable image (the file is empty).",
        "9 of 20 images cannot be used. data.on_bad_image=skip trains without them.",
    ]
    source = table(on_bad_image="skip")
    assert source.splits["train"].targets.tolist() == [0] * 6 + [1] * 5
    assert [skipped["path"] for skipped in source.skipped][-1] == "bee/005.png"
    assert source.notes[-1] == "left out: 9 images that cannot be used; results.json names them"


def test_a_column_without_files_is_another_column() -> None:
    assert refusal(image="label", target="file")[0].startswith(
        "data.image=label: none of the 12 files that it names is in photos; the first is 'ant'. Choose another column"
    )
    assert "or the folder that the paths start from with data.root=DIR" in refusal(root=".")[0]


def test_a_table_of_other_places_says_which() -> None:
    """The root that is advised is that of the files; names with `..` can have none."""
    write_rows(("file", "label"), ((os.path.abspath(f"photos/{file}"), file[:3]) for file in FILES), "other/labels.csv")
    [sentence] = refusal(path="other/labels.csv")
    assert sentence.endswith(f"Name the folder that they are in: data.root={os.path.abspath('photos')}")
    root = sentence.rpartition("data.root=")[2]
    assert table("other/labels.csv", root=root).fingerprint == table().fingerprint
    write_rows(("file", "label"), ((f"../photos/{file}", file[:3]) for file in FILES), "other/labels.csv")
    assert refusal(path="other/labels.csv") == [
        "data.image=file: all 12 files that it names are outside other; the first is '../photos/ant/000.png'. "
        "Write the paths relative to data.root, without `..`."
    ]


# Targets and splits


def test_a_file_has_one_target_and_one_split() -> None:
    rows = [(file, file[:3], "train") for file in FILES]
    write_rows(("file", "label", "part"), [*rows, ("bee/../ant/000", "ant", "train")])
    source = table(split="part")
    assert len(source.splits["train"]) == 12
    assert source.notes[-1] == "left out: 1 row that repeats another one"
    write_rows(("file", "label", "part"), [*rows, ("ant/000", "bee", "train"), ("bee/001.png", "bee", "test")])
    assert refusal(split="part") == [
        "photos/labels.csv: row 14, column file: ant/000 has label bee, and ant in row 2.",
        "photos/labels.csv: row 15, column file: bee/001.png is in another split than in row 9.",
    ]
    write_rows(("file", "label", "part"), [*rows, *(("ant/000.png", "bee", "train") for _ in range(14))])
    assert refusal(split="part")[-1] == "photos/labels.csv: 4 more rows like these."


@pytest.mark.parametrize("names", ["train valid test", "Train VAL Testing", "training validation test"])
def test_a_column_says_the_splits(names: str) -> None:
    first, second, third = names.split()
    parts = [first, first, first, first, second, third] * 2
    write_rows(("file", "label", "part"), ((file, file[:3], part) for file, part in zip(FILES, parts, strict=True)))
    Path("photos/bee/002.png").write_bytes(b"")  # rows of the split column stay with their files
    data = load(table(split="part", on_bad_image="skip"), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 7, "valid": 2, "test": 2}
    last = data.splits["test"]
    folder = image_folder("photos", on_bad_image="skip").splits["train"]
    assert torch.equal(last.samples.take(last.indices), folder.take(torch.tensor([5, 10])))
    assert last.samples.row_numbers[last.indices].tolist() == [5, 11]


def test_an_empty_split_leaves_a_row_out_and_groups_stay_together() -> None:
    rows = [(file, file[:3], i // 2, "" if i == 0 else "train") for i, file in enumerate(FILES)]
    write_rows(("file", "label", "shelf", "part"), rows)
    data = load(table(split="part"), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert sum(map(len, data.splits.values())) == 11
    data = load(table(group="shelf"), valid_fraction=0.3, test_fraction=0.3, seed=0)
    shelves = [{int(n) // 2 for n in split.indices} for split in data.splits.values()]
    assert sum(map(len, shelves)) == len(set.union(*shelves)) == 6


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (lambda file: "dev" if file == "bee/003.png" else "train", "data.split=part: row 11 is 'dev'; expected train"),
        (lambda file: "test", "part assigns no sample to train"),
        (lambda file: "test" if "bee" in file else "train", "data.split=part: no image of the train split has the"),
    ],
)
def test_splits_that_make_no_sense_are_refused(part, sentence: str) -> None:
    write_rows(("file", "label", "part"), ((file, file[:3], part(file)) for file in FILES))
    with pytest.raises(UserError) as raised:
        load(table(split="part"), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert sentence in str(raised.value)


def test_numbers_are_a_regression(train) -> None:
    write_rows(("file", "age"), ((file, i + 0.5) for i, file in enumerate(FILES)))
    source = table(target="age", task="regression")
    assert (source.task, source.classes) == ("regression", ())
    assert source.splits["train"].targets.tolist() == [i + 0.5 for i in range(12)]
    words = ["data=image_table", "data.path=photos/labels.csv", "data.image=file", "data.target=age"]
    run = train(*words, "data.task=regression", "model=ann", "epochs=1")
    assert run.code == 0, run.err
    assert run.results["test"]["mae"] > 0
    assert trainer.load(run.folder).predict("photos/ant/000.png").shape == (1,)


def test_rows_without_a_file_or_target_are_refused_or_dropped() -> None:
    write_rows(("file", "label"), [*((file, file[:3]) for file in FILES), ("", "ant"), ("ant/001.png", "")])
    assert "1 rows have no label, the target. Leave them out: data.missing=drop" in refusal()[0]
    assert len(table(missing="drop").splits["train"]) == 12


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"image": "name"}, r"data\.image: photos/labels\.csv has no column name\."),
        ({"target": "lable"}, r"data\.target: .* has no column lable\. Did you mean label\?"),
        ({"split": "part"}, r"data\.split: .* no column part"),
        ({"target": ["label", "file"]}, r"data\.target=.*: column label holds neither numbers nor"),
        ({"missing": "mean"}, r"data\.missing=mean: expected drop"),
        ({"task": "multi"}, r"data\.task=multi: expected binary, multiclass, multilabel, regression"),
        ({"root": "nowhere"}, r"data\.root=nowhere: no such folder"),
        ({"path": "none.csv"}, r"data\.path=none\.csv: no such file"),
        ({"channels": 4}, r"data\.channels=4: expected 3"),
        ({"follow_links": 1}, r"data\.follow_links=1: expected true or false"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(words, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        table(**words)


def test_deep_images_of_a_table_have_their_range() -> None:
    deep = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    for file in FILES:
        Image.fromarray(np.roll(deep, len(file) + FILES.index(file))).save(f"photos/{file}")
    first = table(range=4095, channels=1).splits["train"].take(torch.arange(1))[0, 0]
    np.testing.assert_array_equal(first.numpy(), np.roll(deep, len(FILES[0])) >> 4)


def test_nothing_is_written_beside_the_images() -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("photos").rglob("*")}
    table()
    assert {path: path.stat().st_mtime_ns for path in Path("photos").rglob("*")} == before


def test_the_doctor_understands_the_table(verb) -> None:
    def doctor(*words: str) -> tuple[int, list[tuple[str, str, str]]]:
        base = ("data=image_table", "data.path=photos/labels.csv", "data.image=file", "data.target=label", "model=ann")
        done = verb("doctor", "--json", "--no-training", "threads=1", *base, *words)
        findings = json.loads(done.out)["findings"]
        return done.code, [(f["check"], f["severity"], f["what"]) for f in findings if f["check"] in CHECKS]

    CHECKS = ("image files", "unreadable images", "images left out", "duplicates")
    assert doctor() == (0, [])
    for copy in ("beside.png", "bee/extra.png"):
        Path("photos", copy).write_bytes(Path("photos/ant/000.png").read_bytes())
    rows = [(file, file[:3]) for file in FILES]
    write_rows(("file", "label"), [*rows, ("bee/none.png", "bee"), ("beside.png", "ant")])
    code, findings = doctor()
    assert code == 1
    assert ("images left out", "note", "photos/bee holds images that no row names: 1") in findings
    missing = "1 of 14 images cannot be used: bee/none.png (no such file)"
    assert ("unreadable images", "error", missing) in findings
    write_rows(("file", "label"), [*rows, ("../x.png", "bee")])
    code, findings = doctor()
    assert (code, len(findings)) == (1, 1)
    assert "row 14, column file: '../x.png' leads outside data.root" in findings[0][2]


# Several labels or numbers


def test_images_with_labels_and_with_numbers(train) -> None:
    has = [(i % 2, (i + 1) % 3 != 0) for i in range(12)]
    labels = [";".join(name for name, one in zip(("red", "wet"), row, strict=True) if one) for row in has]
    rows = [
        (file, int(red), str(bool(wet)).lower(), words, i, -i / 7)
        for i, (file, (red, wet), words) in enumerate(zip(FILES, has, labels, strict=True))
    ]
    write_rows(("file", "red", "wet", "labels", "long", "high"), rows)
    columns, separated = table(target=["red", "wet"]), table(target="labels", label_separator=";")
    assert columns.task == separated.task == "multilabel"
    assert columns.classes == separated.classes == ("red", "wet")
    assert columns.fingerprint == separated.fingerprint
    assert columns.splits["train"].targets.tolist() == [[int(one) for one in row] for row in has]
    numbers = table(target=["long", "high"])
    assert (numbers.task, numbers.targets, numbers.classes) == ("regression", ("long", "high"), ())
    assert numbers.splits["train"].targets.tolist() == [[float(i), -i / 7] for i in range(12)]
    words = ["data=image_table", "data.path=photos/labels.csv", "data.image=file", "model=ann", "epochs=1"]
    for target, key, names in (
        ("data.target=[red,wet]", "per_label", ["red", "wet"]),
        ("data.target=[long,high]", "per_target", ["long", "high"]),
    ):
        done = train(*words, target, "batch_size=4")
        assert done.code == 0, done.err
        assert trainer.load(done.folder).predict("photos/bee/001.png").shape == (1, 2)
        assert [next(iter(entry.values())) for entry in done.results["test"][key]] == names
