"""`trainer list [GROUP]`: the options of every group, and past runs."""

from __future__ import annotations

import click


def _names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the groups that complete an incomplete GROUP."""
    from trainer.config.catalog import config_folders, groups

    return [name for name in [*groups(config_folders()), "runs"] if name.startswith(incomplete)]


@click.command(
    epilog="\b\nExamples:\n  trainer list                   every option of every group"
    "\n  trainer list models            also data, optimizers, schedules, experiments, ..."
    "\n  trainer list runs              runs and sweeps in outputs/, newest first"
    "\n  trainer list runs --all --outputs elsewhere"
)
@click.argument("group", required=False, shell_complete=_names)
@click.option("--config-dir", metavar="DIR", help="A folder of your own YAML, as for train.")
@click.option("--outputs", metavar="DIR", help="Folder with the runs.  [$TRAINER_OUTPUT, else outputs]")
@click.option("--all", "everything", is_flag=True, help="List all runs, not only the newest 20.")
def command(group: str | None, config_dir: str | None, outputs: str | None, everything: bool) -> int:
    """List the options of a GROUP, or of all groups, with a line on each; `runs` lists past runs.

    Files of your own in ./conf and in --config-dir are listed with their paths.
    """
    if group not in ("runs", "run"):
        from trainer.config.catalog import config_folders, describe

        print("\n".join(describe(config_folders(config_dir), group)).rstrip())
        return 0
    from trainer.errors import print_problems
    from trainer.records.folder import outputs_folder
    from trainer.records.history import HEADER, runs
    from trainer.report.tables import print_table

    lines, problems = runs(outputs_folder(outputs), None if everything else 20)
    print_table(HEADER, [list(line) for line in lines], named=True)
    print_problems(problems, "trainer list")
    return 1 if problems else 0
