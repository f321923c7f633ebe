"""The examples in docs/python.md, run from top to bottom as one script."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.processes import run_python
from helpers.runs import REPOSITORY

PAGE = (REPOSITORY / "docs" / "python.md").read_text()


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    checks = [
        'assert run.status == "completed" and run.results["test"]["accuracy"] > 0.5, run.results',
        "assert len(run.metrics) == 3 and run.predict(images).shape == (5, 10)",
        "",
        "assert len(sweep.jobs) == 6 and len(sweep.settings) == 3 and len(sweep.leaderboard) == 6",
        'assert run.results["parameters"]["total"] == 4 * 32 + 32 + 32 * 3 + 3',
        "assert run.predictor.columns == () and run.model is not net and len(run.labels(digits.images[:3])) == 3",
        'assert search.best_params_ == {"trainerclassifier__lr": 1e-2}',
        'assert [problem.key for problem in error_seen.problems] == ["model", "epochs"]',
    ]
    assert len(blocks) == len(checks)
    blocks[-1] = blocks[-1].replace("as error:", "as error:\n    error_seen = error")
    script = tmp_path / "example.py"
    script.write_text("\n".join(text + check + "\n" for text, check in zip(blocks, checks, strict=True)))
    done = run_python(str(script))
    assert done.returncode == 0, done.stderr
    assert "model=lenet: no such model. Did you mean model=lenet5?" in done.stdout
