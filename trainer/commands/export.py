"""`trainer export RUN --format FORMAT`: a trained model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

EXAMPLES = """
\b
Examples:
  trainer export outputs/latest --format onnx --preprocess    takes raw images, returns logits
  trainer export best.pt --format onnx data.root=photos       if the test samples have moved
  trainer export RUN --format pt2 --out served/model.pt2
  trainer export RUN --format state_dict
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(readable=False))
@click.argument("words", nargs=-1, metavar="[key=value]...")
@click.option("--format", type=click.Choice(["onnx", "pt2", "state_dict"]), required=True, help="File format.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [model.onnx, .pt2 or .pt beside the run]")
@click.option("--preprocess", is_flag=True, help="Include the preprocessing: the model takes raw images or rows.")
@click.option("--replace", is_flag=True, help="Replace an existing file.")
@click.option("--trust", is_flag=True, help="Trust the checkpoint: it may import code, for example from this folder.")
def command(run: str, trust: bool, **request: Any) -> int:
    """Export a trained model as ONNX (needs the extra export), as torch.export's pt2, or as a state dict.

    The exported model is compared with torch on samples of the run's test split, or else its validation split; nothing
    is written if their outputs differ. The file holds class names and preprocessing.
    """
    from trainer.config.catalog import leave_current_folder

    leave_current_folder()
    from trainer.records.find import checkpoint_file

    checkpoint_file(run)  # before torch is imported, which takes seconds
    from trainer.errors import printable
    from trainer.inference.checkpoint import open_for_verb
    from trainer.inference.export import ExportRequest, export
    from trainer.report.console import StatusBar
    from trainer.signals import Signals

    with Signals() as signals, StatusBar(signals.check) as progress:
        exported = export(open_for_verb(run, trusted=trust), ExportRequest(**request), progress)
    if exported.samples:
        kind = {"train": "training ", "valid": "validation ", "test": "test "}.get(exported.split, "")
        print(
            f"agrees     with torch on {exported.samples} {kind}samples: largest difference {exported.difference:.2g}, "
            f"largest output {exported.scale:.3g}"
        )
    print(printable(f"written    {exported.path}: {exported.size:,} bytes"))
    return 0
