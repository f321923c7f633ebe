"""Problems: the fields of a mistake and the sentence that is printed."""

from __future__ import annotations

import pytest

from trainer.errors import Problem, UserError


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (Problem("epochs", "expected a whole number", given="x"), "epochs=x: expected a whole number."),
        (Problem("", "nothing to do"), "nothing to do."),
        (Problem("a.csv", "no such file", advice="Name another."), "a.csv: no such file. Name another."),
        (Problem("optim.lr", "a value is needed", command="optim.lr=..."), "optim.lr: a value is needed: optim.lr=..."),
        (Problem("x", "wrong", advice="Leave it out", command="a=b"), "x: wrong. Leave it out: a=b"),
        (Problem("x", "wrong", given="", source="net.yaml"), "net.yaml: x=: wrong."),
        (Problem("x", "wrong").within("b").within("a"), "a: b: x: wrong."),
    ],
)
def test_a_problem_is_one_sentence(problem: Problem, sentence: str) -> None:
    assert str(problem) == sentence
    assert str(UserError(problem, problem)) == f"{sentence}\n{sentence}"
