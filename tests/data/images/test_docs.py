"""The commands and the class in docs/data.md on images, run as they stand."""

from __future__ import annotations

import csv
import io
import re
import shlex
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from helpers.datasets import write_images
from helpers.runs import REPOSITORY

SECTIONS = ("Folders of images", "Images named in a table", "What is not read")
PAGE = (REPOSITORY / "docs" / "data.md").read_text()
TEXT = "".join(PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0] for title in SECTIONS)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
NAMES = [f"{name}_{i}" for name in ("cat", "dog") for i in range(6)]


def write_files() -> None:
    """Write the files that the commands name."""
    write_images(Path("photos"), {"cat": 6, "dog": 6})
    Path("linked").mkdir()
    for name in ("cat", "dog"):
        Path("linked", name).symlink_to(Path("photos", name).resolve())
    rows = [
        (f"{name[:3]}/{int(name[4:]):03}", name[:3], i + 0.5, "test" if i % 3 == 0 else "train")
        for i, name in enumerate(NAMES)
    ]
    for path in ("photos/labels.csv", "labels.csv"):
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([("file", "label", "age", "part"), *rows])
    Path("shards").mkdir()
    for shard in range(2):
        with tarfile.open(f"shards/{shard}.tar", "w") as tar:
            for i in range(6):
                image = io.BytesIO()
                Image.new("RGB", (20, 16), (40 * i, 9, 200 * shard)).save(image, "jpeg")
                for suffix, data in (("jpg", image.getvalue()), ("cls", str(i % 2).encode())):
                    member = tarfile.TarInfo(f"{shard}{i}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    [source] = re.findall(r"```python\n(# shards\.py\n.*?)```", TEXT, re.DOTALL)
    Path("shards.py").write_text(source)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, train, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files()
    monkeypatch.syspath_prepend(Path.cwd())
    done = train(*shlex.split(command)[1:], "epochs=1", "batch_size=4", "plots=false")
    assert done.code == 0, done.err
    assert done.results["status"] == "completed"


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 6
