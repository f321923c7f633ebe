"""The commands in README.md and docs/ are accepted as they stand, and the README's own-model example runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from helpers.runs import REPOSITORY
from trainer.components.targets import find_targets
from trainer.config.compose import Composer
from trainer.config.schema import GROUPS

README = (REPOSITORY / "README.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall(README)


def commands_in(text: str, languages: tuple[str, ...]) -> list[str]:
    """Return the `train` commands in the code blocks of a page, without prompt and comment."""
    lines = [
        line.removeprefix("$ ").split("  # ")[0].strip()
        for language, block in BLOCK.findall(text)
        if language in languages
        for line in block.replace("\\\n", "").splitlines()
        if language == "sh" or line.startswith("$ ")
    ]
    return [line for line in lines if re.match(r"train( |$)", line)]


COMMANDS = commands_in(README, ("sh",))  # its console block shows mistakes
COMMANDS += re.findall(r"\| `(train[^`]*)`", README)
COMMANDS += [
    command
    for page in sorted((REPOSITORY / "docs").glob("*.md"))
    for command in commands_in(page.read_text(), ("sh", "console"))
]


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
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_a_command_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example()
    monkeypatch.syspath_prepend(Path.cwd())  # as the command line does
    words = [word for word in shlex.split(command)[1:] if word not in ("-m", "--cfg", "job", "--help")]
    if any(word.startswith("resume=") for word in words):
        words = [word for word in words if not word.startswith("resume=")]
    composer = Composer()
    is_sweep = " -m " in command or "experiment=random_search" in command
    overrides, problems = composer.read(words, sweep=is_sweep)
    assert not problems
    if not is_sweep:
        job = composer.job(overrides)
        assert not job.problems
        assert not find_targets(job.config, GROUPS, trusted=True)[1]


def test_the_own_model_trains(train) -> None:
    write_example()
    done = train("model=mine", "model.width=256", "epochs=1")
    assert done.code == 0, done.err
    assert done.results["parameters"]["total"] == 64 * 256 + 256 + 256 * 10 + 10
