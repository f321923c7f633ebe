"""Tables as Parquet, Excel, JSON Lines, gzip and standard input: the same as the CSV file of the same cells."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import sqlite3
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.data.dataset import load
from trainer.data.tables import file
from trainer.data.tables.file import standard_input
from trainer.data.tables.rows import BadRow, Encoder
from trainer.data.tables.table import csv_table
from trainer.errors import UserError

openpyxl = pytest.importorskip("openpyxl")
arrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

ROWS = 40


def records() -> list[dict[str, object]]:
    """Rows of every type that a file may declare, some of them missing."""
    draw = np.random.default_rng(0)
    return [
        {
            "size": None if i == 5 else round(draw.normal(), 6),
            "count": int(draw.integers(0, 100)),
            "colour": ("red", "blue")[i % 2],
            "smokes": bool(draw.random() < 0.5),
            "day": datetime.date(2024, 1, 1) + datetime.timedelta(days=int(draw.integers(0, 300))),
            "seen": datetime.datetime(2024, 1, 1, 6) + datetime.timedelta(hours=12 * i),
            "y": ("u", "v")[int(draw.integers(0, 2))],
        }
        for i in range(ROWS)
    ]


def text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def write_csv(rows: list[dict[str, object]], file: io.TextIOBase) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([text(value) for value in row.values()] for row in rows)


def write_parquet(path: str) -> None:
    table = arrow.Table.from_pylist(records())
    column = table.schema.get_field_index("colour")
    parquet.write_table(table.set_column(column, "colour", table["colour"].dictionary_encode()), path)


def write_excel(path: str) -> None:
    book = openpyxl.Workbook()
    book.active.append(list(records()[0]))
    for row in records():
        book.active.append(list(row.values()))
    book.create_sheet("an empty one")
    book.save(path)


def write_json(path: str) -> None:
    objects = (
        {k: text(v) if isinstance(v, datetime.date) else v for k, v in row.items() if v is not None}
        for row in records()
    )
    lines = "".join(json.dumps(row) + "\n" for row in objects).encode()
    Path(path).write_bytes(gzip.compress(lines) if path.endswith(".gz") else lines)


def write_gzip(path: str) -> None:
    with gzip.open(path, "wt") as file:
        write_csv(records(), file)


WRITERS = {
    "a.parquet": write_parquet,
    "a.xlsx": write_excel,
    "a.jsonl": write_json,
    "a.jsonl.gz": write_json,
    "a.csv.gz": write_gzip,
}


@pytest.fixture
def plain() -> str:
    with open("plain.csv", "w", newline="") as file:
        write_csv(records(), file)
    return "plain.csv"


@pytest.mark.parametrize("path", WRITERS)
def test_a_format_gives_the_same_table(path: str, plain: str) -> None:
    WRITERS[path](path)
    expected, source = (csv_table(each, "y", missing="mean") for each in (plain, path))
    assert source.columns == expected.columns
    assert [column.kind for column in source.columns] == ["number", "number", "number", "boolean", "date", "date"]
    assert source.columns[2].categories == ("blue", "red")
    inputs, others = (each.splits["train"].inputs for each in (source, expected))
    torch.testing.assert_close(inputs, others, rtol=0, atol=0, equal_nan=True)
    assert source.fingerprint == expected.fingerprint
    days = [(row["day"] - datetime.date(1970, 1, 1)).days for row in records()]
    assert inputs[:, 4].tolist() == days


def test_standard_input_is_a_table(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    standard_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(Path(plain).read_bytes()))))
    sources = [csv_table(path, "y", missing="mean") for path in (plain, "-", "-")]  # the doctor reads it twice
    assert len({source.fingerprint for source in sources}) == 1
    standard_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(UserError, match=r"data\.path=-: standard input is empty\. Send a table: < table\.csv"):
        csv_table("-", "y")


def test_a_declared_text_is_a_category_whatever_it_looks_like() -> None:
    codes = ["01", "1", "2"]
    table = {"code": [codes[i % 3] for i in range(30)], "a": list(range(30)), "y": list("uv" * 15)}
    parquet.write_table(arrow.table(table), "a.parquet")
    assert csv_table("a.parquet", "y").columns[0].categories == ("01", "1", "2")
    Path("a.csv").write_text("code,a,y\n" + "".join(f"{codes[i % 3]},{i},{'uv'[i % 2]}\n" for i in range(30)))
    assert csv_table("a.csv", "y").columns[0].categories == ()
    assert csv_table("a.csv", "y", categorical=["code"]).columns[0].categories == ("01", "1", "2")


def test_dates_and_booleans_are_encoded_for_prediction_in_any_spelling(plain: str) -> None:
    data = load(csv_table(plain, "y", missing="mean"), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert any("days since 1970-01-01: day, seen" in note for note in data.notes)
    encoder = Encoder(data.prepare.columns, fill=True)
    row = {
        "size": 1,
        "count": 2,
        "colour": "red",
        "smokes": True,
        "day": datetime.date(1970, 1, 3),
        "seen": "1970-01-02 12:00",
    }
    assert encoder.row(row) == [1.0, 2.0, 1.0, 1.0, 2.0, 1.5]
    assert encoder.row({**row, "smokes": "FALSE", "day": "1970-01-03T00:00Z"}) == [1.0, 2.0, 1.0, 0.0, 2.0, 1.5]
    for name, value, reason in (
        ("smokes", "maybe", "'maybe' is not true or false"),
        ("day", "3.1.70", "is not a date"),
    ):
        with pytest.raises(BadRow, match=f"column {name}: .*{reason}"):
            encoder.row({**row, name: value})


def workbook(*rows: list[object], sheets: int = 1) -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    for number in range(sheets):
        sheet = book.active if number == 0 else book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(file)
    return file.getvalue()


def archive(name: str, content: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(name, content)
    return file.getvalue()


def database() -> bytes:
    with sqlite3.connect("x.db") as connection:
        connection.execute("create table t (a)")
    return Path("x.db").read_bytes()


def nested() -> bytes:
    file = io.BytesIO()
    parquet.write_table(arrow.table({"a": [[1], [2]] * 10, "b": list(range(20)), "y": list("uv" * 10)}), file)
    return file.getvalue()


BAD = {
    "not parquet.parquet": (lambda: b"a,y\n1,2\n", "it is not a Parquet file, as its name says"),
    "not excel.xlsx": (lambda: b"a,y\n1,2\n", r"it is not an Excel workbook \(\.xlsx\), as its name says"),
    "not gzip.csv.gz": (lambda: b"a,y\n1,2\n", "it is not compressed by gzip, as its name says"),
    "cut off.csv.gz": (lambda: gzip.compress(b"a,y\n1,2\n" * 9999)[:-40], "the gzip file is damaged"),
    "cut off.parquet": (lambda: b"PAR1" + bytes(100), "the Parquet file is damaged or of an unknown kind"),
    "cut off.xlsx": (lambda: workbook(["a"])[:-30], "the workbook or zip file is damaged"),
    "hollow.xlsx": (lambda: archive("xl/workbook.xml", b"<x/>"), "the workbook is damaged"),
    "a.zip": (lambda: archive("table.csv"), r"it is a zip file\. Unpack it, and name the table in it"),
    "a.ods": (lambda: archive("content.xml"), r"it is an OpenDocument file\. Save it as \.xlsx or \.csv"),
    "old.xls": (lambda: b"\xd0\xcf\x11\xe0" + bytes(600), r"it is an old Excel workbook \(\.xls\)\. Save it as \.xlsx"),
    "a.db": (database, "it is an SQLite database. Export the table as CSV"),
    "a.csv.bz2": (lambda: b"BZh9", r"it is compressed\. Unpack it, or compress it with gzip"),
    "page.csv": (
        lambda: b"\n<!DOCTYPE html><html>",
        "it is a web page, not a table. Download the file",
    ),
    "a.pkl": (lambda: b"\x80\x04\x95", "it is a pickle, which is not read, because it can run code"),
    "a.json": (lambda: b'[\n {"a": 1}]', r"it is a JSON list\. Write one object per line"),
    "pretty.json": (lambda: b'{\n "a": 1\n}\n', "no line is an object such as"),
    "utf16.csv": (lambda: "a,y\n1,2\n".encode("utf-16"), r"it is text in UTF-16\. Convert it to UTF-8"),
    "inner.json": (lambda: b'{"a": 1, "y": {"b": 2}}\n' * 20, "the target holds an object, which is no cell"),
    "not json.jsonl": (lambda: b'{"a": 1, "y": 2}\n{"a"\n', r"not json\.jsonl: row 2: not a line of JSON"),
    "deep.jsonl": (lambda: b'{"a": 1}\n{"a":' + b"[" * 99999, "row 2: not a line of JSON"),
    "twice.jsonl": (lambda: b'{"a": 1}\n{"a": 1, "a": 2}\n', "row 2: it names a key more than once"),
    "infinite.jsonl": (
        lambda: b"".join(b'{"a": %d, "y": "u"}\n' % i for i in range(20)) + b'{"a": -Infinity, "y": "v"}\n',
        "row 21, column a: '-Infinity' is not a finite number",
    ),
    "nested.parquet": (nested, r"column a holds a value of type list<.*>, which is no cell"),
    "two sheets.xlsx": (
        lambda: workbook(["a", "y"], [1, 2], sheets=2),
        "2 sheets of the workbook hold",
    ),
    "formula.xlsx": (
        lambda: workbook(["a", "y"], [1, "u"], ["=A2+1", "v"]),
        r"formula\.xlsx: row 3: the formula in column 1 has no stored value",
    ),
    "wide.xlsx": (lambda: workbook(["a", "y"], [1, "u", 7]), "row 2: a cell to the right of the header's 2 columns"),
    "error.xlsx": (
        lambda: workbook(["a", "y"], *([i, "uv"[i % 2]] for i in range(20)), ["#DIV/0!", "u"]),
        r"row 22, column a: '#DIV/0!' is not a finite number",
    ),
    "title.xlsx": (
        lambda: workbook(["My table", None, None, "."], ["a", "b", "c", "y"]),
        "names '' .no name. more than once",
    ),
    "two headers.csv": (
        lambda: b"a,b,y\nkilograms,0,u\n" + b"".join(b"%d,%d,%c\n" % (i, i, b"uv"[i % 2]) for i in range(30)),
        r"row 2, column a: 'kilograms' is not a finite number\. Is it a second header line",
    ),
    "texts.csv": (
        lambda: b"a,y\n" + b"".join(b"the film number %d was not so bad,%c\n" % (i, b"uv"[i % 2]) for i in range(60)),
        "column a holds texts, of 8 words on average, which no model here reads",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_is_a_sentence(name: str) -> None:
    make, sentence = BAD[name]
    Path(name).write_bytes(make())
    with pytest.raises(UserError, match=sentence) as raised:
        csv_table(name, "y")
    assert name in str(raised.value)


@pytest.mark.parametrize(("path", "library"), [("a.parquet", "pyarrow"), ("a.xlsx", "openpyxl")])
def test_a_missing_library_is_named(path: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[path](path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"{library} is not installed, .*: pip install 'trainer-cli\[tables\]'"):
        csv_table(path, "y")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("bomb.csv.gz", gzip.compress(b"a,y\n" + b"1,2\n" * 2**18), "it expands to more than 200 times its size"),
        ("bomb.xlsx", archive("xl/workbook.xml", bytes(2**20)), "it would expand to 1,048,576 bytes"),
    ],
)
def test_a_file_that_expands_too_much_is_refused(
    name: str, content: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "FREE_BYTES", 2**16)
    Path(name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        csv_table(name, "y")


def test_an_entity_bomb_in_a_workbook_ends_at_once() -> None:
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    source = zipfile.ZipFile(io.BytesIO(workbook(["a", "y"], ["x", "y"])))
    sheet = source.read("xl/worksheets/sheet1.xml").decode().replace(">x<", ">&e9;<")
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]>{sheet.partition("?>")[2] or sheet}'
    with zipfile.ZipFile("a.xlsx", "w") as packed:
        for name in source.namelist():
            packed.writestr(name, bomb if name == "xl/worksheets/sheet1.xml" else source.read(name))
    with pytest.raises(UserError, match="the workbook is damaged"):
        csv_table("a.xlsx", "y")


@pytest.mark.slow
def test_a_run_predicts_any_format(train, verb, plain: str) -> None:
    for path, write in WRITERS.items():
        write(path)
    words = ("data.path=a.parquet", "data.target=y", "data.missing=mean", "model=mlp", "epochs=1")
    done = train("data=csv", *words)
    assert done.code == 0, done.err
    predictions = []
    for path in (plain, *WRITERS):
        assert verb("predict", done.folder, path, "--out", "p.csv").code == 0
        with open("p.csv", newline="") as file:
            predictions.append([row[1:] for row in csv.reader(file)])
    assert all(each == predictions[0] for each in predictions)
    assert len(predictions[0]) == ROWS + 1
    assert verb("evaluate", done.folder, "data.path=a.xlsx").code == 0
