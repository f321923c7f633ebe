"""`trainer summary [key=value ...]`: the layers of a model, and what they cost."""

from __future__ import annotations

import os
import sys

import click


@click.command(
    epilog="\b\nExamples:\n  trainer summary data=mnist model=lenet5"
    "\n  trainer summary data=digits model=resnet18 model.weights=none model.image_size=224"
    "\n  trainer summary --json model=mlp | jq .multiply_adds"
)
@click.argument("overrides", metavar="[key=value]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--config-dir", metavar="DIR", help="A folder of your own YAML, as for train.")
def command(overrides: tuple[str, ...], as_json: bool, config_dir: str | None) -> int:
    """List the layers of a model: output shapes, parameters, multiply-adds and memory.

    Takes the same key=value words as train; the data determines the shapes. Nothing is trained or written.
    """
    sys.path.append(os.getcwd())  # for a user's own `_target_: mymodule.Net`; last, so that it shadows nothing
    from trainer.config.compose import Composer
    from trainer.run.job import new_job

    job = new_job(Composer(config_dir), overrides)
    from trainer.components.assemble import assemble
    from trainer.records.schema import dump
    from trainer.records.summary import HEADER, rows, totals
    from trainer.report.console import StatusBar
    from trainer.report.tables import print_table
    from trainer.run.summary import summarise
    from trainer.signals import Signals

    with Signals() as signals, StatusBar(signals.check) as progress:
        summary = summarise(assemble(job.config, trusted=True, progress=progress))
    if as_json:
        print(dump(summary))
        return 0
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows(summary)]
    print_table(HEADER, cells, named=True)
    print()
    for name, text in totals(summary, job.config.batch_size):
        print(f"{name:<14} {text}")
    return 0
