"""The examples in docs/python.md, run from top to bottom as one script."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from helpers.processes import run_python
from helpers.runs import REPOSITORY

PAGE = (REPOSITORY / "docs" / "python.md").read_text()


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CHECKS = {  # what must be true after a block, by a part of its text
    "run.status": 'assert run.status == "completed" and run.results["test"]["accuracy"] > 0.5, run.results',
    "run.labels(images)": "assert len(run.metrics) == 3 and run.predict(images).shape == (5, 10)",
    "sweep.best": "assert len(sweep.jobs) == 6 and len(sweep.settings) == 3 and len(sweep.leaderboard) == 6",
    "load_digits()": "assert run.predictor.columns == () and run.model is not net",
    "GridSearchCV(": 'assert search.best_params_ == {"trainerclassifier__lr": 1e-2}',
    "class Net": 'assert run.results["parameters"]["total"] == 4 * 32 + 32 + 32 * 3 + 3',
}


def write_script(folder: Path, blocks: list[str]) -> str:
    """Write blocks of the page as a script, each with its check, and return its path."""
    lines = [text + "".join(f"{check}\n" for part, check in CHECKS.items() if part in text) for text in blocks]
    script = folder / "example.py"
    script.write_text("\n".join(lines))
    return str(script)


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert all(any(part in text for text in BLOCKS) for part in CHECKS)
    short = [text for text in BLOCKS if "trainer.sweep" not in text and "GridSearchCV" not in text]
    runpy.run_path(write_script(tmp_path, short), run_name="__main__")
    assert "model=lenet: no such model. Did you mean model=lenet5?" in capfd.readouterr().out


@pytest.mark.exhaustive
def test_all_examples_run(tmp_path: Path) -> None:
    done = run_python(write_script(tmp_path, BLOCKS))
    assert done.returncode == 0, done.stderr
    assert "rank  state" in done.stdout
