"""The defects that show that the tests of faults can fail: `python scripts/faults.py --planted`."""

from __future__ import annotations

import re
from pathlib import Path

from faults.kinds import load_kinds
from faults.planted import PLANTED, plant
from helpers.runs import REPOSITORY


def test_every_planted_defect_can_still_be_planted(tmp_path: Path) -> None:
    for number, defect in enumerate(PLANTED):
        copy = tmp_path / str(number) / "trainer" / defect.file
        copy.parent.mkdir(parents=True)
        copy.write_text((REPOSITORY / "trainer" / defect.file).read_text())
        plant(defect, tmp_path / str(number))
        compile(copy.read_text(), str(copy), "exec")


def test_planted_defects_name_kinds_of_faults() -> None:
    assert {defect.kind for defect in PLANTED} <= set(load_kinds())


def test_the_page_on_reliability_names_kinds_and_tests_that_exist() -> None:
    page = (REPOSITORY / "docs" / "reliability.md").read_text()
    kinds = {name for names in re.findall(r"`--only ([\w-]+)`", page) for name in names.split()}
    assert kinds <= set(load_kinds())
    tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert tests
    for path, name in tests:
        text = (REPOSITORY / path).read_text()
        assert not name or f"def {name}(" in text, f"{path}::{name}"


def test_the_page_on_reliability_names_every_kind() -> None:
    page = (REPOSITORY / "docs" / "reliability.md").read_text()
    assert not [name for name in load_kinds() if f"--only {name}`" not in page]
