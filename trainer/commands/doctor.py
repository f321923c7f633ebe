"""`trainer doctor [key=value ...]`: check machine, configuration and data before a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command(
    epilog="\b\nExamples:\n  trainer doctor                             the default run on this machine"
    "\n  trainer doctor data=image_folder data.root=photos data.size=64 model=resnet18"
    "\n  trainer doctor data=csv data.path=water.csv data.target=Potability model=mlp"
    "\n  trainer doctor data=mnist model=lenet5 --lr   suggest a learning rate"
    "\n  trainer doctor --json | jq .findings"
)
@click.argument("overrides", metavar="[key=value]...", nargs=-1)
@click.option("--lr", is_flag=True, help="Run a learning-rate range test; its picture is lr_range.png.")
@click.option("--no-training", is_flag=True, help="Skip the checks that train.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--config-dir", metavar="DIR", help="A folder of your own YAML, as for train.")
def command(overrides: tuple[str, ...], lr: bool, no_training: bool, as_json: bool, config_dir: str | None) -> int:
    """Check machine, configuration and data before a run.

    Takes the same key=value words as train. The exit code is 1 if there is an error, else 0.
    """
    import json

    sys.path.append(os.getcwd())  # for a user's own `_target_: mymodule.Net`; last, so that it shadows nothing
    from trainer.doctor.examine import examine
    from trainer.report.console import StatusBar
    from trainer.report.doctor_view import draw_rates, show
    from trainer.signals import Signals

    picture = Path("lr_range.png")
    with Signals() as signals, StatusBar(signals.check) as progress:
        report, rates = examine(overrides, signals, progress, config_dir=config_dir, lr=lr, train=not no_training)
    if rates is not None:
        draw_rates(picture, rates.rates, rates.losses, rates.suggested)
    if as_json:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
        if not text.replace("\n", "").isprintable():
            text = json.dumps(report.to_dict(), indent=2)
        print(text)
    else:
        show(report)
        if rates is not None:
            print(f"picture: {picture}")
    return 1 if report.failed else 0
