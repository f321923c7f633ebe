"""`trainer evaluate RUN... [key=value]...`: evaluate finished runs."""

from __future__ import annotations

import click

EXAMPLES = """
\b
Examples:
  trainer evaluate outputs/latest                     test the run again
  trainer evaluate best.pt data.root=other/photos     other data of the same classes
  trainer evaluate outputs/*/*-mnist-* --ensemble     several runs, and their mean probabilities
  trainer evaluate RUN --calibrate                    fit a temperature, for predict --calibrated
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, required=True, metavar="RUN... [key=value]...", type=click.Path(readable=False))
@click.option("--part", type=click.Choice(["train", "valid", "test"]), help="Split to evaluate.  [test]")
@click.option("--ensemble", is_flag=True, help="Also evaluate the mean of the runs' probabilities.")
@click.option("--calibrate", is_flag=True, help="Fit a temperature on the validation split and store it.")
@click.option("--calibrated", is_flag=True, help="Use the stored temperature.")
@click.option("--trust", is_flag=True, help="Trust the runs: they may import code, for example from this folder.")
def command(
    runs: tuple[str, ...], part: str | None, ensemble: bool, calibrate: bool, calibrated: bool, trust: bool
) -> int:
    """Evaluate finished runs on their own data, or on other data of the same shape and classes.

    You may change data=..., data.*, device and threads. Several RUNs are printed as a table. The report is written to
    evaluation-<n>.json beside the checkpoint, with a reliability diagram.
    """
    import os

    from trainer.config.catalog import leave_current_folder

    leave_current_folder()
    from trainer.errors import Problem, UserError, printable
    from trainer.records.find import checkpoint_file

    words = tuple(word for word in runs if "=" in word and not os.path.exists(word))
    names = [word for word in runs if word not in words]
    if not names:
        raise UserError(Problem("evaluate", "no RUN: expected a run folder or a checkpoint file"))
    if ensemble and len(names) < 2:
        raise UserError(Problem("--ensemble", "it takes two runs or more"))
    for name in names:
        checkpoint_file(name)  # before torch is imported, which takes seconds
    from trainer.inference.evaluate import EvaluationRequest, WrittenEvaluation, evaluate_ensemble, evaluate_run
    from trainer.report.console import StatusBar
    from trainer.report.evaluation import show, table
    from trainer.signals import Signals

    request = EvaluationRequest(words, part, calibrate, calibrated, trust)
    evaluations: list[WrittenEvaluation] = []
    with Signals() as signals, StatusBar(signals.check) as progress:
        for name in names:
            first = evaluations[0] if evaluations else None
            evaluations.append(evaluate_run(name, request, signals, progress, beside=first))
    if ensemble:
        evaluations.append(evaluate_ensemble(evaluations))
    if len(evaluations) == 1:
        show(evaluations[0].content)
    else:
        table([(each.result.name, each.content) for each in evaluations])
    for each in evaluations:
        print(printable(f"written    {each.path}"))
    return 0
