"""The commands in README.md and docs/ are accepted as written, and the own-model example in README.md runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from helpers.runs import REPOSITORY
from trainer.commands.verbs import VERBS, verbs
from trainer.components.targets import find_targets
from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.config.schema import GROUPS
from trainer.sweeps.grid import compose_jobs, read_overrides

README = (REPOSITORY / "README.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall(README)


def commands_in(text: str, languages: tuple[str, ...]) -> list[str]:
    """Return the commands in the code blocks of a page, without prompt and comment."""
    lines = [
        line.removeprefix("$ ").split("  # ")[0]
        for language, block in BLOCK.findall(text)
        if language in languages
        for line in block.replace("\\\n", "").splitlines()
        if language == "sh" or line.startswith("$ ")
    ]
    return [command.strip() for line in lines for command in re.split(r" && | \| ", line)]


PAGES = [page.read_text() for page in sorted((REPOSITORY / "docs").glob("*.md"))]
ALL = [
    *commands_in(README, ("sh",)),  # its console block shows mistakes
    *re.findall(r"\| `(train[^`]*)`", README),
    *(command for page in PAGES for command in commands_in(page, ("sh", "console"))),
]
COMMANDS = [command for command in dict.fromkeys(ALL) if re.match(r"train( |$)", command)]
VERB_COMMANDS = [command for command in dict.fromkeys(ALL) if command.startswith("trainer ")]


def write_example() -> None:
    """The files that the README shows, and the modules that other pages show, each named in its first line."""
    modules = [block for page in PAGES for block in BLOCK.findall(page) if re.match(r"# \w+\.py\n", block[1])]
    for language, text in [*BLOCKS, *modules]:
        if language in ("python", "yaml"):
            path = Path(re.match(r"# ([\w./]+)", text)[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:  # a page may show a module in several blocks
                file.write(text)
    with open("mymodule.py", "a") as file:
        file.write("\nimport torch\n\nclass MyDataset(torch.utils.data.Dataset):\n    pass\n")


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 40
    assert {command.split()[1] for command in VERB_COMMANDS} == set(VERBS)


@pytest.fixture
def _example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the README's files are, in which the command line looks for modules."""
    write_example()
    monkeypatch.syspath_prepend(Path.cwd())


def jobs(words: list[str], is_sweep: bool) -> list[Job]:
    """Return the composed job or, of a sweep, all of them."""
    composer = Composer()
    if is_sweep:
        return compose_jobs(composer, read_overrides(composer, words))
    overrides, problems = composer.read(words, sweep=False)
    assert not problems
    return [composer.job(overrides)]


@pytest.mark.slow
@pytest.mark.usefixtures("_example")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command: str) -> None:
    words = [word for word in shlex.split(command)[1:] if word not in ("-m", "--cfg", "job", "--help")]
    words = [word for word in words if not word.startswith(("resume=", "hydra/launcher=", "hydra.launcher."))]
    words = ["trial=0" if word.startswith("sweep.sampler=") else word for word in words]  # a draw of Optuna's
    for job in jobs(words, " -m " in command or "experiment=random_search" in command):
        assert not job.problems
        assert not find_targets(job.config, GROUPS, trusted=True)[1]


@pytest.mark.slow
@pytest.mark.usefixtures("_example")
@pytest.mark.parametrize("command", VERB_COMMANDS)
def test_a_verb_is_accepted(command: str) -> None:
    words = shlex.split(command)[1:]
    context = verbs.make_context("trainer", words)  # parses and runs nothing
    name, verb, rest = verbs.resolve_command(context, words)
    assert verb.make_context(name, rest, parent=context)
    overrides = [word for word in words if re.match(r"[\w.]+=", word)]
    for job in jobs(overrides, is_sweep=False) if name == "doctor" else []:
        assert not job.problems


def test_the_own_model_trains(train) -> None:
    write_example()
    done = train("model=mine", "model.width=256", "epochs=1")
    assert done.code == 0, done.err
    assert done.results["parameters"]["total"] == 64 * 256 + 256 + 256 * 10 + 10
