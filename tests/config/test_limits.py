"""A YAML file that nobody would write is refused before it takes time or memory, and odd numbers are not guessed at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.processes import processor_limit
from helpers.runs import CompletedCommand
from trainer.config.limits import DEEPEST, MOST_VALUES, BoundedLoader, TypedLoader, nesting
from trainer.config.stored import StoredConfig
from trainer.errors import UserError

LEVELS = range(30)
# Without the limits, the first two fill the memory, and the others end in a RecursionError or a traceback.
BOMBS = {
    "aliases": "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{f'*a{n},' * 9}]\n" for n in LEVELS),
    "merged mappings": "a0: &a0 {k: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [{f'*a{n},' * 9}]}}\n" for n in LEVELS),
    "many values": "lr: [" + "1," * MOST_VALUES + "]",
    "deep lists": "lr: " + "[" * 300 + "]" * 300,
    "deep mappings": "lr: " + "{a: " * 300 + "1" + "}" * 300,
    "open brackets": "lr: " + "[" * 100_000,
    "deep by aliases": "a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in LEVELS),
    "a value in itself": "a: &a [1, *a]",
    "deep interpolations": f"lr: '{'${oc.env:' * 300}X{'}' * 300}'",
    "digits": "lr: " + "9" * 900_000,
    "digits of a fraction": "lr: 1." + "9" * 900_000,
    "a large file": "# " + "x" * 1_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_file_of_the_user_is_refused_at_once(name: str, train: Callable[..., CompletedCommand]) -> None:
    Path("mine/optim").mkdir(parents=True)
    Path("mine/optim/odd.yaml").write_text("_target_: torch.optim.SGD\n" + BOMBS[name])
    with processor_limit(10):
        done = train("--config-dir", "mine", "optim=odd")
    assert (done.code, done.folder) == (2, None)
    (line,) = done.err.splitlines()
    assert line.startswith("train: error: ")
    assert "mine/optim/odd.yaml: " in line
    assert len(line) < 500


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_stored_configuration_is_refused_at_once(name: str) -> None:
    with processor_limit(10), pytest.raises(UserError, match=r"run/config\.yaml"):
        StoredConfig.parse(BOMBS[name], Path("run/config.yaml"))


NUMBERS = {"1_000": 1000, "010": 8, "0x10": 16, "0b11": 3, "1:30": 90, "1_0.5": 10.5, "1:30.5": 90.5}


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_that_yaml_reads_otherwise_than_people_are_refused(text: str) -> None:
    assert yaml.safe_load(text) == NUMBERS[text]
    with pytest.raises(yaml.YAMLError, match=r"line 2: .*: numbers are written in decimal digits"):
        yaml.load(f"a: 1\nb: {text}", BoundedLoader)
    assert yaml.load(f"'{text}'", BoundedLoader) == text


@pytest.mark.parametrize("text", ["1_000", "1_0e3", "1e1_0", "\u0661\u0662", "\uff11", "0x10", "[1_0]", "{a: 1_0}"])
def test_odd_numbers_in_a_file_of_the_user_are_mistakes(text: str, train: Callable[..., CompletedCommand]) -> None:
    Path("conf/optim").mkdir(parents=True)
    Path("conf/optim/odd.yaml").write_text(f"_target_: torch.optim.SGD\nlr: {text}\n")
    done = train("optim=odd")
    assert done.code == 2
    assert "conf/optim/odd.yaml: line 2: " in done.err
    assert "numbers are written in decimal digits" in done.err


def test_ordinary_values_and_aliases_are_read() -> None:
    text = "a: &a [1, -2, +3, 0, 1.5, -.5, 1.0e-05, .inf, x_1, '1_0']\nb: *a\nc: {<<: {d: 1}, e: null}"
    assert yaml.load(text, TypedLoader) == yaml.safe_load(text)
    deep = "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert yaml.load(f"a: {deep}", BoundedLoader) == yaml.safe_load(f"a: {deep}")
    with pytest.raises(yaml.YAMLError, match=r"aliases \(\*name\) are not accepted"):
        yaml.load("a: &a 1\nb: *a", BoundedLoader)


def test_nesting_counts_brackets_of_all_kinds() -> None:
    assert [nesting(text) for text in ("", "a", "[1]", "[{a: (1)}, [2]]", "]][", "'${x:[1]}'")] == [0, 0, 1, 3, 1, 2]
