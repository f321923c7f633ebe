"""`trainer compare RUN RUN...`: what was different, and what came of it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="\b\nExamples:\n  trainer compare outputs/2026-11-21/10-00-00-mnist-lenet5 outputs/latest"
    "\n  trainer compare outputs/2026-11-21/* --out today.png"
)
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--out", metavar="FILE", default="compare.png", help="The picture of the curves.  [compare.png]")
def command(runs: tuple[str, ...], out: str) -> int:
    """Compare runs: the keys of their configuration that differ, their figures, and their curves in one picture.

    Differences, in brackets, are to the first run; an asterisk marks the best of each figure.
    """
    from trainer.errors import UserError
    from trainer.records.find import run_folder
    from trainer.records.record import read
    from trainer.report.compare_view import show

    if len(runs) < 2:
        raise UserError("compare: expected two runs or more.")
    show([read(run_folder(run)) for run in runs], Path(out))
    return 0
