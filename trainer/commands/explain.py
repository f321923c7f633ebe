"""`trainer explain RUN [INPUT]...`: which pixels or columns decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

EXAMPLES = """
\b
Examples:
  trainer explain outputs/latest                     importance of columns, or the most confident mistakes
  trainer explain outputs/latest photo.jpg 'more/*.png'
  trainer explain best.pt photo.jpg --target dog --method integrated_gradients
  trainer explain best.pt rows.csv --out explained   which columns decided each row
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(readable=False))
@click.argument("inputs", nargs=-1, metavar="[INPUT | key=value]...", type=click.Path(readable=False))
@click.option("--method", type=click.Choice(["grad_cam", "integrated_gradients"]), help="For images.  [grad_cam]")
@click.option("--target", help="Class, label or target to explain.  [the predicted one]")
@click.option("--part", "split", type=click.Choice(["train", "valid", "test"]), help="Split without inputs.  [test]")
@click.option(
    "--repeats", default=10, type=click.IntRange(1, 1000), show_default=True, help="Permutations of a column."
)
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), show_default=True, help="Seed of permutations.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to.  [explain beside the checkpoint]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--trust", is_flag=True, help="Trust the checkpoint: it may import code, for example from this folder.")
def command(run: str, inputs: tuple[str, ...], device: str, trust: bool, **options: Any) -> int:
    """Explain predictions: which pixels of an image, or which columns of a table, decided.

    With INPUTs (images, folders, patterns or tables, as for trainer predict), each is explained by Captum (needs the
    extra explain). Without, a table's columns are permuted on the test split, and of images the most confident mistakes
    are explained; you may change data=... and data.*. Pictures and tables are written to the folder explain of the run,
    and trainer report shows them.
    """
    import os

    from trainer.config.catalog import leave_current_folder

    leave_current_folder()
    from trainer.records.find import checkpoint_file

    checkpoint_file(run)  # before torch is imported, which takes seconds
    from trainer.errors import Problem, UserError
    from trainer.inference.checkpoint import open_for_verb
    from trainer.inference.explained import ExplainRequest, explain
    from trainer.inference.predictor import Predictor
    from trainer.report.console import StatusBar
    from trainer.signals import Signals

    words = tuple(word for word in inputs if "=" in word and not os.path.exists(word))
    request = ExplainRequest(tuple(word for word in inputs if word not in words), words, **options)
    if request.inputs and (words or request.split):
        reason = "it has no effect with inputs, which are explained without the data of the run"
        raise UserError(Problem(words[0] if words else f"--part {request.split}", reason))
    if not request.inputs and request.target is not None:
        raise UserError(Problem(f"--target {request.target}", "it has no effect without inputs"))
    predictor = Predictor(open_for_verb(run, trusted=trust), device=device)
    with Signals() as signals, StatusBar(signals.check, quiet=bool(request.inputs)) as progress:
        return explain(predictor, request, signals, progress)
