"""`trainer export`."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """
\b
Examples:
  trainer export outputs/latest --format onnx --preprocess    bytes of images in, logits out
  trainer export best.pt --format onnx data.root=photos       where the test samples are now
  trainer export RUN --format pt2 --out served/model.pt2
  trainer export RUN --format state_dict
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(readable=False))
@click.argument("words", nargs=-1, metavar="[key=value]...")
@click.option("--format", "form", type=click.Choice(["onnx", "pt2", "state_dict"]), required=True, help="The form.")
@click.option("--out", type=click.Path(path_type=Path), help="The file; default: model.onnx, .pt2 or .pt by the run.")
@click.option("--preprocess", is_flag=True, help="Put the preprocessing inside: raw images or rows go in.")
@click.option("--replace", is_flag=True, help="Replace a file that is there.")
@click.option("--trust", is_flag=True, help="The checkpoint may name code of its own, in this folder for example.")
def command(
    run: str, words: tuple[str, ...], form: str, out: Path | None, preprocess: bool, replace: bool, trust: bool
) -> int:
    """Write a trained model for other programs: ONNX (needs the extra export), torch.export's pt2, or a state dict.

    Its answers to samples of the run's test part are compared with torch's, for any size of batch, and nothing is
    written where they differ. Class names and preprocessing are in the file."""
    from trainer.config.catalog import leave_current_folder

    leave_current_folder()
    from trainer.records.find import checkpoint_file

    checkpoint_file(run)  # before seconds are spent on torch
    from trainer.inference.checkpoint import open_for_verb
    from trainer.inference.export import ExportRequest, export
    from trainer.report.console import StatusBar
    from trainer.signals import Interrupted, Signals

    with Signals() as signals:
        try:
            with StatusBar(signals.check) as progress:
                request = ExportRequest(form, out, preprocess, replace, words)
                exported = export(open_for_verb(run, trusted=trust), request, progress)
        except Interrupted:
            return signals.exit_code
    if exported.samples:
        print(
            f"agrees     with torch on {exported.samples} test samples: largest difference {exported.difference:.2g}, "
            f"largest output {exported.scale:.3g}"
        )
    print(f"written    {exported.path}: {exported.size:,} bytes")
    return 0
