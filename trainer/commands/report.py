"""`trainer report DIR...`: report.html for each run."""

from __future__ import annotations

import click


@click.command(
    epilog="\b\nExamples:\n  trainer report outputs/latest"
    "\n  trainer report outputs/2026-11-21                    every run of a day"
    "\n  trainer report outputs/2026-11-21/10-00-00-sweep     every job of a sweep"
)
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(readable=False))
def command(folders: tuple[str, ...]) -> int:
    """Write report.html, one self-contained page for each run.

    A DIR is the folder of a run, of a sweep, or of several. The page is written into the run's folder. It shows
    curves, metrics by class, the confusion matrix, calibration, the most confident mistakes, the configuration, the
    environment and commands.
    """
    from trainer.report.pages import write_pages

    return write_pages(folders)
