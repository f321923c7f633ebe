"""`trainer compare RUN RUN...`: configuration, metrics and curves of several runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="\b\nExamples:\n  trainer compare outputs/2026-11-21/10-00-00-mnist-lenet5 outputs/latest"
    "\n  trainer compare outputs/2026-11-21/* --out today.png"
)
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--out", metavar="FILE", default="compare.png", help="Picture of the curves.  [compare.png]")
def command(runs: tuple[str, ...], out: str) -> int:
    """Compare runs: configuration keys that differ, metrics, and the curves in one picture.

    Differences in brackets refer to the first run; an asterisk marks the best value of each metric.
    """
    from trainer.errors import Problem, UserError
    from trainer.records.find import run_folder
    from trainer.records.record import read
    from trainer.report.compare_view import show

    if len(runs) < 2:
        raise UserError(Problem("compare", "expected two runs or more"))
    show([read(run_folder(run)) for run in runs], Path(out))
    return 0
