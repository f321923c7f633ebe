"""Changes of the configuration between the sessions of a run; those that would change its results are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config.effects import is_free_on_resume
from trainer.config.job import Job
from trainer.config.overrides import leaves_of
from trainer.config.stored import StoredConfig
from trainer.errors import Problem, UserError, show


def refuse_other_configuration(path: Path, text: str, job: Job) -> None:
    """Compare a job with the configuration in its checkpoint: config.yaml has no checksum.

    Args:
        path: the folder of the run.
        text: the configuration in its checkpoint.
        job: the job that would continue it.

    Raises:
        UserError: keys differ that may not, and `resume_force` is not set.
    """
    if not job.config.resume_force:
        stored = StoredConfig.parse(text, path / "checkpoints")
        refuse_changes(path, stored.tree, job)


def refuse_changes(path: Path, stored: dict[str, Any], job: Job) -> None:
    """Compare a job with the configuration that its run was trained with.

    Args:
        path: the folder of the run.
        stored: the configuration so far.
        job: the job that would continue the run.

    Raises:
        UserError: keys have changed that may not.
    """
    before, after = dict(leaves_of(stored)), dict(leaves_of(job.stored))
    changed = [
        key
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and show(before.get(key)) != show(after.get(key))  # threads: "1" and 1
        and not is_free_on_resume(key)
    ]
    if "epochs" in changed:
        from trainer.components.schedule import depends_on_epochs  # imports torch
        from trainer.components.targets import resolve_targets

        targets = resolve_targets(job.config, ["schedule"], trusted=job.config.trust)
        if not depends_on_epochs(targets.schedule):
            changed.remove("epochs")
    if changed:
        raise UserError(
            *(
                Problem(
                    key,
                    f"the run in {path} has {show(before.get(key))}",
                    given=show(after.get(key)),
                    advice="Start a new run, or add resume_force=true.",
                )
                for key in changed
            )
        )
