"""`trainer predict RUN INPUT...`: classes or values for images and rows of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

EXAMPLES = """
\b
Examples:
  trainer predict outputs/latest photo.jpg holiday/ 'more/*.png'
  trainer predict best.pt rows.csv --out predictions.csv
  find . -name '*.png' | trainer predict RUN - --top 1 --out predictions.json
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(readable=False))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--top", default=3, type=click.IntRange(1), show_default=True, help="Number of classes for each input.")
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file, .csv or .json, instead of printing.")
@click.option("--calibrated", is_flag=True, help="Use the temperature that evaluate --calibrate stored.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--trust", is_flag=True, help="Trust the checkpoint: it may import code, for example from this folder.")
def command(run: str, inputs: tuple[str, ...], top: int, out: Path | None, trust: bool, **options: Any) -> int:
    """Predict classes or values for images, folders of images, patterns or tables.

    RUN is a run folder or a checkpoint file; the file alone is enough. The input - stands for a list of paths on
    standard input. Inputs that cannot be used are reported, and the exit code is then 1.
    """
    import sys

    from trainer.config.catalog import leave_current_folder

    leave_current_folder()
    from trainer.records.find import checkpoint_file

    checkpoint_file(run)  # before torch is imported, which takes seconds
    from trainer.errors import print_problems, printable
    from trainer.inference.checkpoint import open_for_verb
    from trainer.inference.inputs import samples
    from trainer.inference.predict import predict, writer
    from trainer.inference.predictor import Predictor
    from trainer.report.console import StatusBar
    from trainer.signals import Signals

    total = bad = 0
    with Signals() as signals:
        predictor = Predictor(open_for_verb(run, trusted=trust), **options)
        quiet = out is None and sys.stdout.isatty()  # no bar among the printed lines
        with StatusBar(signals.check, quiet=quiet) as progress, writer(out, predictor, top) as write:
            for prediction in predict(predictor, samples(predictor, inputs, sys.stdin), top, progress):
                total += 1
                if prediction.error is not None:
                    bad += 1
                    print_problems([f"{prediction.input}: {prediction.error}."], "trainer predict")
                write(prediction)
    if bad:
        print_problems([f"{bad:,} of {total:,} inputs could not be used"], "trainer predict")
    if out is not None:
        print(printable(f"{out}: {total:,} predictions" + (f", {bad:,} of them without a result" if bad else "")))
    return 1 if bad else 0
