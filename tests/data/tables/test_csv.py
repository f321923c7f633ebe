"""Tables: parsed in many formats, fitted on the training split only; faults are reported by file, row and column."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trainer.data.dataset import load
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tables.rows import BadRow, Encoder
from trainer.data.tables.table import bundled_table, csv_table
from trainer.errors import UserError

FRACTIONS = {"valid_fraction": 0.2, "test_fraction": 0.2, "seed": 0}


def write(text: str, name: str = "table.csv", encoding: str = "utf-8") -> str:
    Path(name).write_bytes(text.encode(encoding))
    return name


@pytest.mark.parametrize(
    ("name", "target", "loader"),
    [
        ("iris", "species", datasets.load_iris),
        ("wine", "cultivar", datasets.load_wine),
        ("breast_cancer", "diagnosis", datasets.load_breast_cancer),
        ("diabetes", "progression", lambda: datasets.load_diabetes(scaled=False)),
    ],
)
def test_bundled_tables_are_scikit_learns(name: str, target: str, loader) -> None:
    source, known = bundled_table(name, target), loader()
    part = source.splits["train"]
    np.testing.assert_allclose(part.inputs.numpy(), known.data)
    if source.task == "regression":
        np.testing.assert_array_equal(part.targets.numpy(), known.target)
    else:
        names = np.array(source.classes)[part.targets.numpy()]
        np.testing.assert_array_equal(names, known.target_names[known.target])


def test_any_dialect_gives_the_same_table() -> None:
    rows = [("1.5", "a b", "yes"), ("-2e3", "c", "no"), ("3", "a b", "yes"), ("4", "c", "no")]
    header = ("size [cm]", "kind, of", "answer")
    plain = write("\n".join(",".join(f'"{cell}"' for cell in row) for row in (header, *rows)) + "\n", "a.csv")
    bom = write("﻿" + "\r\n".join(";".join(row) for row in (header, *rows)), "b.csv")
    tabs = write("\n".join("\t".join(f" {cell} " for cell in row) for row in (header, *rows)), "c.tsv")
    first, *others = (csv_table(path, "answer") for path in (plain, bom, tabs))
    assert first.classes == ("no", "yes")
    assert [column.name for column in first.columns] == ["size [cm]", "kind, of"]
    for other in others:
        assert other.columns == first.columns
        assert torch.equal(other.splits["train"].inputs, first.splits["train"].inputs)
        assert torch.equal(other.splits["train"].targets, first.splits["train"].targets)


def mixed_table(rows: int = 120) -> str:
    rng = np.random.default_rng(0)
    lines = ["weight,colour,height,y"]
    for i in range(rows):
        weight = "" if i % 17 == 3 else f"{rng.normal(70, 12):.3f}"
        colour = ["red", "green", "blue", "rare"][3 if i == 50 else i % 3]
        lines.append(f"{weight},{colour},{rng.normal(1.7, 0.1):.4f},{'ab'[i % 2]}")
    return write("\n".join(lines))


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_filling_scaling_and_encoding_are_scikit_learns_fitted_on_the_training_part(strategy: str) -> None:
    data = load(csv_table(mixed_table(), "y", missing=strategy), **FRACTIONS)
    raw = {name: split.samples.take(split.indices).numpy() for name, split in data.splits.items()}
    imputer = SimpleImputer(strategy=strategy).fit(raw["train"][:, [0, 2]])
    scaler = StandardScaler().fit(imputer.transform(raw["train"][:, [0, 2]]))
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(raw["train"][:, [1]])
    for part in raw.values():
        numbers = scaler.transform(imputer.transform(part[:, [0, 2]]))
        expected = np.hstack([numbers[:, :1], encoder.transform(part[:, [1]]), numbers[:, 1:]])
        found = data.prepare(torch.from_numpy(part), torch.float64).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert TablePrepare.from_dict(data.prepare.to_dict()) == data.prepare


def test_rows_with_missing_values_can_be_left_out() -> None:
    assert len(csv_table(mixed_table(), "y", missing="drop").splits["train"]) == 120 - 7


def test_columns_may_be_called_by_numbers() -> None:
    """Hydra and YAML read such names as numbers."""
    path = write("1,2,3,4\n" + "".join(f"{i},{i % 3},{i % 7},{'uv'[i % 2]}\n" for i in range(30)))
    assert [column.name for column in csv_table(path, 4, drop=[2]).columns] == ["1", "3"]  # type: ignore[arg-type]
    assert [column.name for column in csv_table(path, 4, features=[2]).columns] == ["2"]  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"data\.target=5: .* has no such column\. There is: 1, 2, 3, 4"):
        csv_table(path, 5)  # type: ignore[arg-type]


GOOD = "a,b,y\n" + "".join(f"{i},{i % 3},{'uv'[i % 2]}\n" for i in range(30))
FAULTS = {
    "no such file": (None, {}, ["data.path=table.csv: no such file"]),
    "no target": (GOOD, {"target": "z"}, ["data.target=z", "There is: a, b, y"]),
    "near target": (GOOD.replace("y\n", "label\n", 1), {"target": "lable"}, ["Did you mean label?"]),
    "only a header": ("a,b,y\n", {}, ["expected a header and a row"]),
    "doubled": (GOOD.replace("a,b", "a,a", 1), {}, ["names a more than once"]),
    "short row": (GOOD + "1,2\n", {}, ["table.csv: row 32: 2 cells, where the header has 3"]),
    "after empty lines": (GOOD.replace("\n7,1", "\n\n\n7x,1"), {}, ["row 11, column a: '7x'"]),
    "nothing but separators": (GOOD + ",,\n", {}, ["1 rows have no y"]),
    "bad cell": (GOOD.replace("\n7,1", "\n7x,1"), {}, ["table.csv: row 9, column a: '7x' is not a finite number"]),
    "infinity": (GOOD.replace("\n7,1", "\ninf,1"), {}, ["row 9, column a: 'inf'"]),
    "missing": (GOOD.replace("\n7,1", "\n,1").replace("\n8,2", "\nNA,?"), {}, ["a 2, b 1", "data.missing=mean"]),
    "missing target": (
        GOOD.replace("\n7,1,v", "\n7,1,"),
        {"missing": "mean"},
        ["1 rows have no y", "data.missing=drop"],
    ),
    "constant": ("a,b,y\n" + "1,2,u\n1,3,v\n" * 9, {}, ["column a has a single value", "data.drop=[a]"]),
    "names": (
        "id,b,y\n" + "".join(f"person{i},{i % 3},{'uv'[i % 2]}\n" for i in range(30)),
        {},
        ["column id has 30 different texts", "data.drop=[id]"],
    ),
    "one class": (GOOD.replace("v", "u"), {}, ["all rows of table.csv are of one class, u"]),
    "not binary": (GOOD.replace("29,2,v", "29,2,w"), {"task": "binary"}, ["y has 3 classes"]),
    "not a number": (
        GOOD,
        {"task": "regression"},
        ["column y: 30 cells are not finite numbers, the first in row 2: 'u'"],
    ),
    "unknown feature": (GOOD, {"features": ["a", "bb"]}, ["data.features", "no column bb"]),
    "a column for a list": (GOOD, {"drop": "a"}, ["data.drop=a: expected a list of columns, such as [age,height]"]),
    "a list in a list": (GOOD, {"features": [["a"]]}, ["data.features=[['a']]: expected a list of columns"]),
    "two targets": (GOOD, {"target": ["y", "b"]}, ["column y holds neither numbers nor labels (0 or 1, true"]),
    "a target twice": (GOOD, {"target": ["y", "y"]}, ["data.target=['y', 'y']: expected the name of a column, or"]),
    "a list of none": (GOOD, {"target": []}, ["data.target=[]: expected the name of a column, or several"]),
    "two classes": (GOOD, {"target": ["y", "b"], "task": "binary"}, ["expected multilabel or regression for sev"]),
    "no label in it": (GOOD, {"target": ["a", "b"], "task": "multilabel"}, ["row 4, column a: '2' does not say"]),
    "no numbers in it": (GOOD, {"target": ["a", "y"], "task": "regression"}, ["column y", "not finite numbers"]),
    "two of labels": (GOOD, {"target": ["a", "y"], "label_separator": ";"}, ["data.label_separator=;: it separates"]),
    "no labels": (GOOD, {"label_separator": ";", "task": "binary"}, ["it makes the task multilabel, and data.ta"]),
    "no separator": (GOOD, {"label_separator": ""}, ["data.label_separator=", "expected the text between two"]),
    "a rare label": ("a,s,t\n1,0,1\n2,0,0\n", {"target": ["s", "t"]}, ["no row of table.csv has the label s; there"]),
    "a sure label": ("a,y\n1,p q\n2,q\n", {"label_separator": " "}, ["every row of table.csv has the label q; there"]),
    "no label": ("a;y\n1;\n2;\n", {"label_separator": ","}, ["data.target=y: no row of table.csv has a label"]),
    "nothing left": (GOOD, {"drop": ["a", "b"]}, ["no column is left"]),
    "odd choice": (GOOD, {"missing": "zero"}, ["data.missing=zero: expected mean, median, drop"]),
    "not text": ("\udcff", {}, ["not UTF-8 text"]),
}


NUMBERS = [f"{n / 8}" for n in range(40)]
TARGETS = {
    "a text": (["1.5", "abc", *NUMBERS[2:]], {}, "row 3, column y: 'abc' is not a finite number, where 39 are numbers"),
    "infinity": (["inf", *NUMBERS[1:]], {}, "row 2, column y: 'inf' is not a finite number, where 39 are numbers"),
    "names": ([f"p{n}" for n in range(40)], {}, "40 different values in 40 rows, as if every row were a class"),
    "numbers as classes": (NUMBERS, {"task": "multiclass"}, "40 different values in 40 rows"),
}


# What Python's float() and int() read as numbers, or YAML, and a reader of the table need not.
MISSPELT = {
    "underscores": ["1_000", "2_000", "3_000"],
    "exponents with underscores": ["1e3_0", "2e3_0"],
    "Arabic-Indic digits": ["١", "٢", "٣"],
    "full-width digits": ["１２", "１３"],
    "infinities": ["inf", "-Infinity"],
}


@pytest.mark.parametrize("name", MISSPELT)
def test_cells_that_only_python_reads_as_numbers_are_text(name: str) -> None:
    texts = MISSPELT[name]
    rows = [f"{texts[i % len(texts)]},{i},{texts[i % len(texts)]}" for i in range(40)]
    source = csv_table(write("\n".join(["odd,plain,y", *rows])), "y")
    assert source.columns[0].categories == tuple(sorted(texts))
    assert source.classes == tuple(sorted(texts))
    with pytest.raises(UserError, match=r"row 7, column plain: '.+' is not a finite number"):
        csv_table(write("\n".join(["odd,plain,y", *rows]).replace(",5,", f",{texts[0]},")), "y")
    with pytest.raises(BadRow, match=r"column plain: '.+' is not a finite number"):
        Encoder(source.columns, fill=False).row({"odd": texts[0], "plain": texts[0]})


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_of_too_many_values_is_no_class(name: str) -> None:
    cells, words, sentence = TARGETS[name]
    write("a,y\n" + "\n".join(f"{n},{cell}" for n, cell in enumerate(cells)))
    with pytest.raises(UserError, match=re.escape(sentence)):
        csv_table("table.csv", "y", **words)


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ([f'"{n},25"' for n in range(60)], "holds numbers with decimal commas ('0,25')"),
        ([f"{n + 1}_000" for n in range(60)], "holds numbers with underscores ('10_000')"),
        ([chr(0x661 + n % 9) * (1 + n // 9) for n in range(60)], "holds numbers in other digits ('١')"),
        ([f'"{n + 1},000"' for n in range(60)], "holds numbers with commas in thousands ('1,000')"),
        ([f"{n}.5 kg" for n in range(60)], "holds numbers with a unit ('0.5 kg')"),
        ([f"{n} %" for n in range(60)], "holds numbers with a unit ('0 %')"),
        ([f"EUR {n}.50" for n in range(60)], "holds numbers with a unit ('EUR 0.50')"),
        ([f"2024/{n // 28 + 1:02}/{n % 28 + 1:02}" for n in range(60)], "holds dates ('2024/01/01')"),
        ([f"{n % 28 + 1}.{n // 28 + 1}.2024" for n in range(60)], "holds dates ('1.1.2024')"),
        ([f"A-{n}" for n in range(60)], "has 60 different texts"),
        ([f"street {n}" for n in range(60)], "has 60 different texts"),
    ],
)
def test_numbers_in_disguise_are_told_from_names(cells: list[str], what: str) -> None:
    write("a,k,y\n" + "\n".join(f"{n},{cell},{n % 2}" for n, cell in enumerate(cells)))
    with pytest.raises(UserError, match=re.escape(f"column k {what}")):
        csv_table("table.csv", "y")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_sentence_that_says_where(name: str) -> None:
    text, words, expected = FAULTS[name]
    if text is not None:
        Path("table.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as raised:
        csv_table("table.csv", **{"target": "y", **words})
    for fragment in expected:
        assert fragment in str(raised.value)


@pytest.mark.parametrize(
    ("values", "task"),
    [("u v", "binary"), ("u v w", "multiclass"), ("0 1", "binary"), ("1 2 3", "multiclass"), ("0.5 1.5", "regression")],
)
def test_the_task_follows_from_the_target(values: str, task: str) -> None:
    cells = values.split()
    path = write("a,y\n" + "".join(f"{i},{cells[i % len(cells)]}\n" for i in range(30)))
    data = load(csv_table(path, "y"), **FRACTIONS)
    assert data.task.name == task
    assert any(task in note for note in data.notes)


def test_many_whole_numbers_are_a_regression_unless_said_otherwise() -> None:
    path = write("a,y\n" + "".join(f"{i % 9},{i % 40}\n" for i in range(200)))
    assert csv_table(path, "y").task == "regression"
    assert len(csv_table(path, "y", task="multiclass").classes) == 40
