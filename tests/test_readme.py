"""The README's commands are accepted as they stand, and its own-model example runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from helpers.runs import REPOSITORY
from trainer.components.targets import check
from trainer.config.compose import Composer
from trainer.config.schema import GROUPS

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("  # ")[0].strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if line.startswith("train ") or line == "train"
]
COMMANDS += re.findall(r"\| `(train[^`]*)`", README)


def write_example() -> None:
    """The files that the README shows, each named in its first line."""
    for language, text in BLOCKS:
        if language in ("python", "yaml"):
            path = Path(re.match(r"# ([\w./]+)", text)[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    with open("mymodule.py", "a") as file:
        file.write("\nimport torch\n\nclass MyDataset(torch.utils.data.Dataset):\n    pass\n")


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example()
    monkeypatch.syspath_prepend(Path.cwd())  # as the command line does
    words = [word for word in shlex.split(command)[1:] if word not in ("-m", "--cfg", "job", "--help")]
    if any(word.startswith("resume=") for word in words):
        words = [word for word in words if not word.startswith("resume=")]
    composer = Composer()
    overrides, problems = composer.read(words, sweep=" -m " in command)
    assert not problems
    if " -m " not in command:
        job = composer.job(overrides)
        assert not job.problems
        assert not check(job.config, GROUPS)


def test_the_own_model_trains(train) -> None:
    write_example()
    done = train("model=mine", "model.width=256", "epochs=1")
    assert done.code == 0, done.err
    assert done.results["parameters"]["total"] == 64 * 256 + 256 + 256 * 10 + 10
