"""CSV files hold no formulas, and their readers return what was written."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from trainer.data.tables.formulas import escaped, unescaped
from trainer.records.table import Table, write_csv

FORMULAS = ["=1+1", "=cmd|' /C calc'!A0", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "-1+2", "=", "-"]
OTHERS = ["", "a=1", "'t", "cat", "-1", "+0.5", "-1e-3", "'-1", "1-2", " =1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert escaped([text]) == [f"'{text}"]
    assert unescaped(f"'{text}") == text


@pytest.mark.parametrize("text", OTHERS)
def test_other_text_is_left_alone(text: str) -> None:
    assert escaped([text]) == [text]
    assert unescaped(text) == text


def test_numbers_are_left_alone() -> None:
    assert escaped([-1, -1.5, None, True]) == [-1, -1.5, None, True]


def test_whole_files_and_added_rows_are_escaped() -> None:
    path = Path("x.csv")
    write_csv(path, ["=a", "b"], [["=1", -1]])
    table = Table(Path("y.csv"), ["a", "b"], [{"a": "=1"}])
    table.add({"b": -1.0, "a": "@x"})
    table.close()
    with open(path, newline="") as one, open("y.csv", newline="") as other:
        assert list(csv.reader(one)) == [["'=a", "b"], ["'=1", "-1"]]
        assert list(csv.reader(other)) == [["a", "b"], ["'=1", ""], ["'@x", "-1.0"]]
