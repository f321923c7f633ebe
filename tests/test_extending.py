"""Every block of docs/extending.md runs as it stands there, and data of a function is that of a class."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from helpers.runs import REPOSITORY
from test_readme import BLOCK

BLOCKS = BLOCK.findall((REPOSITORY / "docs" / "extending.md").read_text())
COMMANDS = [
    shlex.split(line, comments=True)[1:] for language, text in BLOCKS if language == "sh" for line in text.splitlines()
]
FEW = ("max_steps=2", "batch_size=32", "threads=1")


@pytest.fixture
def _mine() -> None:
    """Write the page's module, and two functions more."""
    text = "".join(text for language, text in BLOCKS if language == "python")
    more = """
from torch.utils.data import Dataset, Subset

def pair() -> tuple[Dataset, Subset]:
    whole = rings()
    return Subset(whole, range(200)), Subset(whole, range(200, 300))

def unsaid():
    return rings()
"""
    Path("mine.py").write_text(text + more)


@pytest.mark.slow
@pytest.mark.usefixtures("_mine")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page(words: list[str], train) -> None:
    done = train(*words, *FEW)
    assert done.code == 0, done.err
    for word in words:
        key, _, value = word.partition("=")
        if key == "monitor":
            assert done.results["valid"][value.removeprefix("valid_")] is not None


@pytest.mark.usefixtures("_mine")
def test_a_function_may_return_train_and_valid(train) -> None:
    done = train("data=custom", "data._target_=mine.pair", "model=mlp", *FEW)
    assert done.code == 0, done.err
    assert "160 train, 100 valid, 40 test" in done.out
    refused = train("data=custom", "data._target_=mine.unsaid", "model=mlp", *FEW)
    assert (refused.code, "data._target_=mine.unsaid: it is not a" in refused.err) == (2, True)
