"""Problems of some or all jobs of a sweep are reported before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.faulty_models import write
from helpers.sweeps import TINY
from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.errors import UserError
from trainer.sweeps.grid import compose_jobs, read_overrides


def composed(*words: str) -> list[Job]:
    composer = Composer()
    return compose_jobs(composer, read_overrides(composer, words))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("max_steps=2,5,2", "seed=0,1"), "max_steps=2,5: cannot differ from job to job: "),
        (("data.workers=1,2",), "data.workers=1,2: cannot differ"),
        (("name=a,b",), "name=a,b: cannot differ"),
        (("checkpoint.every=1ep,2ep",), "checkpoint.every=1ep,2ep: cannot differ"),
        (("experiment=ours_a,ours_b",), "max_minutes=1.0,2.0: cannot differ"),
    ],
)
def test_keys_that_cannot_distinguish_jobs_are_reported(words: tuple[str, ...], fragment: str) -> None:
    for name, minutes in (("ours_a", 1), ("ours_b", 2)):
        write(f"conf/experiment/{name}.yaml", f"# @package _global_\nmax_minutes: {minutes}.0\n")
    with pytest.raises(UserError) as caught:
        composed(*words)
    assert [problem for problem in caught.value.problems if str(problem).startswith(fragment)] == caught.value.problems
    assert len(caught.value.problems) == 1
    assert len(composed("experiment=ours_a,ours_b", "max_minutes=3")) == 1  # the same in all


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("data.folds=5", "data.fold=range(6)"), "data.fold=5 data.folds=5: expected a fold from 0 to 4"),
        (("epochs=5,2", "schedule.warmup_epochs=3"), "schedule.warmup_epochs=3: expected less than epochs=2"),
        (("epochs=3", "schedule.warmup_epochs=1,4"), "schedule.warmup_epochs=4: expected less than epochs=3"),
        (("epochs=3", "schedule=step", "schedule.step_size=2,0"), "schedule.step_size=0"),
        (("model.dropout=0.1,2",), "model.dropout=2"),
        (
            ("data.per_class=5,10", "freeze=backbone", "unfreeze_at=1,2", "epochs=2"),
            "unfreeze_at=2: expected less than",
        ),
    ],
)
def test_numbers_that_only_fail_when_built_are_refused_before_anything_is_written(words, fragment: str, sweep) -> None:
    done = sweep("-m", *TINY, *words)
    assert done.code == 2
    assert fragment in done.err
    assert not Path("outputs").exists()
