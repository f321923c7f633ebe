"""What is recognised but not read as a folder of images: named as such, with a command that works."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.datasets import write_images
from helpers.runs import CompletedCommand
from trainer.data.images.folder import image_folder
from trainer.errors import UserError

SMALL = ("model=ann", "epochs=1", "batch_size=4")


def refusal(root: str) -> str:
    with pytest.raises(UserError) as raised:
        image_folder(root)
    return str(raised.value)


def photos(root: str = "photos") -> list[str]:
    """Write twelve images in a flat folder; return their names."""
    write_images(Path("made"), {"ant": 6, "bee": 6})
    Path(root).mkdir(parents=True)
    for path in Path("made").glob("*/*.png"):
        path.rename(f"{root}/{path.parent.name}_{path.name}")
    shutil.rmtree("made")
    return sorted(path.name for path in Path(root).iterdir())


def write_rows(path: str, header: str, rows: list[tuple[object, ...]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def advised(message: str, train: Callable[..., CompletedCommand]) -> CompletedCommand:
    """Run the command at the end of a message."""
    [command] = re.findall(r": (train data=.*?)$", message.splitlines()[0])
    return train(*shlex.split(command)[1:], *SMALL)


# Tables beside images


@pytest.mark.parametrize(
    ("table", "header", "row", "words"),
    [
        ("photos/labels.csv", "file,label", lambda n: (n, n[:3]), "data.image=file data.target=label"),
        ("photos/train.csv", "id,age,breed", lambda n: (n[:-4], 3, n[:3]), "data.image=id data.target=breed"),
        (
            "photos/metadata.csv",
            "file_name,text,name",
            lambda n: (n, n, n[:3]),
            "data.image=file_name data.target=name",
        ),
        (
            "labels.csv",
            "part,kind,file",
            lambda n: ("val" if "5" in n else "train", n[:3], n),
            "data.image=file data.target=kind data.root=photos data.split=part",
        ),
    ],
)
def test_a_table_beside_images_is_proposed_as_a_whole_command(table: str, header: str, row, words: str, train) -> None:
    write_rows(table, header, [row(name) for name in photos()])
    proposals = [refusal(str(Path(table).parent)), refusal(table)]
    where = str(Path(table).parent.joinpath(Path(table).name))
    for proposal in proposals:
        assert f"train data=image_table data.path={where} {words}" in proposal.replace("data.path=./", "data.path=")
    done = advised(proposals[0], train)
    assert done.code == 0, done.err


def test_kaggles_layout_is_proposed(train) -> None:
    names = photos("data/train")
    photos("data/test")
    write_rows("data/train.csv", "id,label", [(name[:-4], name[:3]) for name in names])
    write_rows("data/sample_submission.csv", "id,label", [(name[:-4], "ant") for name in names])
    assert (
        "train.csv names image files. Train on them: train data=image_table data.path=data/train.csv data.image=id "
        "data.target=label data.root=data/train"
    ) in refusal("data")
    assert advised(refusal("data"), train).code == 0


def test_a_table_of_paths_is_not_read_as_features(train, verb) -> None:
    write_rows("photos.csv", "path,label", [(f"photos/{name}", name[:3]) for name in photos()])
    refused = train("data=csv", "data.path=photos.csv", "data.target=label")
    expected = "data.path=photos.csv: a table of image files. Train on them: train data=image_table"
    assert (refused.code, expected in refused.err) == (2, True)
    assert "data.drop" not in refused.err
    words = ("--json", "--no-training", "threads=1")
    for data in (("data=csv", "data.path=photos.csv", "data.target=label"), ("data=image_folder", "data.root=.")):
        found = json.loads(verb("doctor", *words, *data).out)["findings"]
        assert any("train data=image_table data.path=" in str(finding) for finding in found)
        assert "data.drop" not in str(found)
    assert advised(refused.err, train).code == 0


def test_a_table_that_names_no_images_is_not_proposed() -> None:
    photos()
    write_rows("photos/labels.csv", "file,label", [("none.png", "ant"), ("gone.png", "bee")])
    assert refusal("photos") == (
        "photos: 0 class folders; expected a folder of images for each of two classes or more; its 12 images have no "
        "class. Move them to a folder for each class, or name them in a table: data=image_table."
    )


def test_texts_are_named_as_such(train) -> None:
    texts = [f"this is what customer {i} has to say about it" for i in range(60)]
    write_rows("reviews.csv", "review,stars,liked", [(t, i % 5, i % 2) for i, t in enumerate(texts)])
    words = ("data=csv", "data.path=reviews.csv", "data.target=liked", "model=mlp", "epochs=1")
    refused = train(*words)
    assert "column review holds texts, of 10 words on average, which no model here reads. Put numbers in" in refused.err
    assert refused.err.rstrip().endswith(": data.drop=[review]")
    assert train(*words, "data.drop=[review]").code == 0
    alone = train(*words, "data.drop=[stars]").err
    assert "no column is left to predict from" in alone
    assert "data.drop" not in alone


# Archives and other files


def archived(kind: str, root: str = "photos") -> str:
    write_images(Path(root), {"ant": 6, "bee": 6})
    if kind == "zip":
        with zipfile.ZipFile("photos.zip", "w") as file:
            for path in sorted(Path(root).rglob("*.png")):
                file.write(path, path.relative_to(root))
    else:
        with tarfile.open(f"photos.{kind}", "w") as file:
            file.add(root, ".")
    Path(root).rename("original")
    return f"photos.{kind}"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_is_unpacked_by_the_command_that_is_named(kind: str) -> None:
    name = archived(kind)
    message = refusal(name)
    assert message.startswith(f"data.root={name}: a {kind[:3]} file, which is not read. Unpack it and set data.root=")
    subprocess.run(message.split(": ", 2)[2], shell=True, check=True, executable="/bin/sh")
    expected = image_folder("original").splits["train"].fingerprint()
    assert image_folder("photos").splits["train"].fingerprint() == expected
    Path("outer").mkdir()
    Path(name).rename(f"outer/{name}")
    assert f"{name} is a {kind[:3]} file, which is not read. Unpack it and set data.root=outer/photos" in refusal(
        "outer"
    )


@pytest.mark.parametrize(
    ("suffix", "what"), [("tar", "files, such as the shards of webdataset, are"), ("parquet", "files are")]
)
def test_shards_need_a_class_of_the_users_own(suffix: str, what: str) -> None:
    Path("shards").mkdir()
    for i in range(3):
        Path(f"shards/{i}.{suffix}").write_bytes(b"")
    expected = f"its 3 {suffix.replace('parquet', 'Parquet')} {what} not read. Read them in a Dataset class"
    assert expected in refusal("shards")


def test_other_files_are_named() -> None:
    np.savez("x.npz", x=np.zeros(3))
    assert refusal("x.npz") == "data.root=x.npz: a file of arrays. Train on it: train data=arrays data.path=x.npz"
    Path("x.txt").write_text("")
    assert refusal("x.txt") == "data.root=x.txt: a file; expected a folder of images."


@pytest.mark.parametrize("path", ["my photos.csv", "a,b.csv", "none.csv", "empty.csv", "bytes.csv", "one.csv"])
def test_odd_tables_are_not_proposed(path: str) -> None:
    contents = {"empty.csv": b"", "bytes.csv": b"\xff\xfe\0\0", "one.csv": b"file\n", "none.csv": b"a,b\n1\n"}
    Path(path).write_bytes(contents.get(path, b"file,label\nx,y\n"))
    assert refusal(path) == f"data.root={path}: a file; expected a folder of images."
