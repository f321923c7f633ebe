"""Words of the command line that Hydra would misread, or fail on, and keys given twice, are mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from helpers.runs import CompletedCommand, run_folders
from trainer.commands.train import run_train
from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.errors import UserError
from trainer.traits import cores


def refused(*words: str, sweep: bool = False) -> list[str]:
    """Return the problems of words, which leave no override that is used."""
    return [str(problem) for problem in Composer().read(words, sweep=sweep)[1]]


@pytest.mark.parametrize(
    "word",
    [
        *("epochs=1_0", "seed=1_000", "optim.lr=1_0.5", "optim.lr=1e3_0", "optim.lr=.0_1", "name=2024_10"),
        *("epochs=\u0661\u0662", "epochs=\uff11\uff12", "model.hidden=[6_4,64]", "optim.betas=[0.9,0.9_9]"),
        "model.layers=[{Linear: [4, 1_0]}]",
    ],
)
def test_a_number_is_written_in_decimal_digits(word: str) -> None:
    (problem,) = refused(word)
    assert problem.startswith(f"{word}: expected a number in decimal digits, such as 1000, or text in quotes")


@pytest.mark.parametrize("word", ["epochs=1,1_0", "seed=range(1_0)", "optim.lr='${uniform:0,1_0}'"])
def test_so_it_is_in_a_sweep(word: str) -> None:
    if "uniform" in word:
        job = Composer().job(Composer().read([word, "trial=0"], sweep=False)[0])
        assert "expected two numbers" in str(job.problems[0])
    else:
        assert "expected a number in decimal digits" in refused(word, sweep=True)[0]


@pytest.mark.parametrize("word", ["data.path=2024_10.csv", "name='2024_10'", "name=a_1", "name=1_a", "optim.lr=1e-3"])
def test_text_with_underscores_and_numbers_with_exponents_are_read(word: str) -> None:
    assert not refused(word)


def test_text_that_looks_like_a_number_is_kept_in_quotes(job: Callable[..., Job]) -> None:
    assert job("name='2024_10'").config.name == "2024_10"


@pytest.mark.slow
@pytest.mark.parametrize(
    "word",
    [
        "model.x=" + "{a:" * 300 + "1" + "}" * 300,
        "model.x=" + "[" * 300 + "]" * 300,
        "hydra.launcher.x=" + "[" * 300 + "]" * 300,
        "model." + ".".join(["a"] * 300) + "=1",
        "name='" + "${oc.env:" * 300 + "X" + "}" * 300 + "'",
        "epochs=" + "9" * 5000,
        "optim.lr=" + "9" * 500,
    ],
)
def test_deep_values_and_huge_numbers_are_mistakes_with_a_short_sentence(
    word: str, train: Callable[..., CompletedCommand]
) -> None:
    done = train(word)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "deep" in line or "digits" in line
    assert len(line) < 200


def test_a_key_that_is_given_twice_is_a_mistake() -> None:
    assert refused("epochs=1", "model=mlp", "epochs=2", "model=ann") == [
        "epochs: given more than once: epochs=1, epochs=2. Choose one.",
        "model: given more than once: model=mlp, model=ann. Choose one.",
    ]
    assert refused("seed=1,2", "seed=3", sweep=True) == ["seed: given more than once: seed=1,2, seed=3. Choose one."]
    assert not refused("seed=1,1", "epochs=1,2", sweep=True)


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_a_repeated_key_ends_the_command(flags: list[str]) -> None:
    with pytest.raises(UserError, match="epochs: given more than once: epochs=1, epochs=1"):
        run_train([*flags, "epochs=1", "epochs=1"])
    assert not run_folders()


def test_a_number_that_is_not_finite_is_answered_once(train: Callable[..., CompletedCommand]) -> None:
    assert train("optim.lr=nan").err == "train: error: optim.lr=nan: expected a finite number.\n"


@pytest.mark.parametrize("key", ["threads", "sweep.workers", "data.workers"])
def test_more_threads_and_processes_than_systems_allow_are_refused(key: str, job: Callable[..., Job]) -> None:
    assert not job(f"{key}=1024").problems
    composer = Composer()
    (problem,) = composer.job(composer.read([f"{key}=100000"], sweep=False)[0]).problems
    assert re.match(rf"{key}=100000: expected .* to 1024\b", str(problem))
    assert key == "data.workers" or f"this machine has {cores()} core" in str(problem)
