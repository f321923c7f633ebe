"""Other people's launchers (`hydra/launcher=joblib`, Slurm by submitit) run the jobs of a sweep in their own workers.

Hydra is given nothing but the jobs' numbers: what a number stands for is frozen in the sweep's ledger, which the
workers read from the folder that they share with the sweep.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from trainer.data.loader import DataCache
from trainer.errors import UserError
from trainer.sweeps.workers import Task

NAME = "_launch_of_trainer_"
QUIET = ("hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.sweep.subdir=.")


def check(words: Sequence[str]) -> None:
    """Needs a Composer to have been made.

    Raises:
        UserError: something else than a launcher, a launcher that is not installed, or no override.
    """
    for word in words:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise UserError(f"{word}: not readable as key=value.") from error
        if not override.key_or_group.startswith(("hydra/launcher", "hydra.launcher.")):
            raise UserError(f"{word}: of Hydra's own settings only hydra/launcher is used. See: train --help")
        if override.key_or_group == "hydra/launcher":
            name = str(override.value())
            known = GlobalHydra.instance().config_loader().get_group_options("hydra/launcher")
            if name not in known:
                raise UserError(
                    f"hydra/launcher={name}: not installed; there is {', '.join(known)}. "
                    f"pip install 'trainer-cli[{name.partition('_')[0]}]'"
                )


def launch(words: Sequence[str], folder: Path, numbers: Sequence[int], command: Sequence[str]) -> None:
    """Runs these jobs of the sweep in `folder` under the launcher that `words` choose; returns when all have ended."""
    ConfigStore.instance().store(name=NAME, node={"job": None, "folder": None, "command": None})
    GlobalHydra.instance().clear()
    before = sys.argv
    sys.argv = [
        "train", "--multirun", *words, *QUIET, f"hydra.sweep.dir='{folder.resolve()}'", f"folder='{folder.resolve()}'",
        f"command={_quoted(command)}", f"job={','.join(map(str, numbers))}",
    ]  # fmt: skip
    try:
        hydra.main(version_base="1.3", config_path=None, config_name=NAME)(run_job)()
    finally:
        sys.argv = before
        (folder / "multirun.yaml").unlink(missing_ok=True)  # Hydra's own note; the ledger says more


def _quoted(words: Sequence[str]) -> str:
    return "[" + ",".join("'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'" for word in words) + "]"


def run_job(config: DictConfig) -> float | None:
    """One job in a launcher's worker; returns its monitored value."""
    from trainer.records.leaderboard import Row
    from trainer.records.ledger import read_ledger
    from trainer.records.results import read_results
    from trainer.sweeps.grid import stored_job
    from trainer.sweeps.workers import run_task

    folder = Path(config.folder)
    entry = read_ledger(folder / "sweep.jsonl")[1][config.job]
    job = stored_job(entry, folder, trust=True)  # the sweep, which wrote it, has checked it
    place = folder / entry.name
    place.mkdir(exist_ok=True)
    run_task(Task(entry.number, job, place), job.config.device, list(config.command), DataCache())
    return Row(entry, str(entry.stored["monitor"]), read_results(place)).value
