"""Hydra launchers (`hydra/launcher=joblib`, submitit for Slurm) that run the jobs of a sweep in their own workers.

Hydra receives only the numbers of the jobs. The workers read the configurations from the ledger in the sweep's folder,
which they must share with this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from trainer.config.words import refuse_word
from trainer.data.loader import DataCache
from trainer.errors import Problem, UserError
from trainer.records.contents import make_folder, remove
from trainer.records.leaderboard import Row
from trainer.records.ledger import read_ledger
from trainer.records.results import results_or_failure
from trainer.run.command import Command
from trainer.sweeps.grid import stored_job
from trainer.sweeps.worker import SweepJob, WorkItem, run_item

NAME, MULTIRUN = "_launch_of_trainer_", "multirun.yaml"
QUIET = ("hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.sweep.subdir=.")


def check(words: Sequence[str]) -> None:
    """Check overrides of Hydra's own configuration; needs a Composer to have been created.

    Raises:
        UserError: a word is not an override within limits, sets anything but the launcher, or names one that is not
            installed.
    """
    for word in words:
        if problem := refuse_word(word):
            raise UserError(problem)
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise UserError(Problem(word, "not readable as key=value")) from error
        if not override.key_or_group.startswith(("hydra/launcher", "hydra.launcher.")):
            reason = "hydra/launcher is the only one of Hydra's own settings that can be used"
            raise UserError(Problem(word, reason, advice="See", command="train --help"))
        if override.key_or_group == "hydra/launcher":
            _check_installed(str(override.value()))


def _check_installed(name: str) -> None:
    installed = GlobalHydra.instance().config_loader().get_group_options("hydra/launcher")
    if name not in installed:
        reason = f"not installed; available: {', '.join(installed)}"
        advice = f"pip install 'trainer-cli[{name.partition('_')[0]}]'"
        raise UserError(Problem("hydra/launcher", reason, given=name, advice=advice))


def launch(words: Sequence[str], folder: Path, numbers: Sequence[int], command: Sequence[str]) -> None:
    """Run the jobs of these numbers with the Hydra launcher that `words` configure; return when all have ended."""
    ConfigStore.instance().store(name=NAME, node={"job": None, "folder": None, "command": None})
    GlobalHydra.instance().clear()
    remove(folder / MULTIRUN)  # Hydra would follow a link
    before = sys.argv
    sys.argv = [
        "train", "--multirun", *words, *QUIET, f"hydra.sweep.dir='{folder.resolve()}'", f"folder='{folder.resolve()}'",
        f"command={_quoted(command)}", f"job={','.join(map(str, numbers))}",
    ]  # fmt: skip
    try:
        hydra.main(version_base="1.3", config_path=None, config_name=NAME)(run_job)()
    finally:
        sys.argv = before
        remove(folder / MULTIRUN)  # written by Hydra; the ledger says more


def _quoted(words: Sequence[str]) -> str:
    return "[" + ",".join("'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'" for word in words) + "]"


def run_job(config: DictConfig) -> float | None:
    """Run a job in a launcher's worker; return its monitored value, which Hydra's sweepers expect."""
    folder = Path(config.folder)
    entry = read_ledger(folder / "sweep.jsonl").entries[config.job]
    job = stored_job(entry, folder, trust=True)  # written and checked by the sweep that started this worker
    run_folder = folder / entry.name
    make_folder(run_folder)
    item = WorkItem((SweepJob(config.job, job, run_folder),), run_folder, trusted=True)
    run_item(item, job.config.device, Command(list(config.command), time.perf_counter()), DataCache())
    return Row(entry, results_or_failure(run_folder)).value
