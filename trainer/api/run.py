"""A run that `trainer.train` has trained: its results, metrics, page and predictions."""

from __future__ import annotations

import json
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.api.objects import Objects
from trainer.api.table import Table
from trainer.files import resolve
from trainer.records.contents import exists
from trainer.records.metrics import FILE as METRICS
from trainer.records.metrics import read_metrics
from trainer.records.results import read_results
from trainer.records.schema import dump

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.inference.predictor import Predictor

PAGE_HEIGHT = 640  # pixels of the page in a notebook


class TrainedRun:
    """A run and its folder; `trainer.TrainedRun("outputs/latest")` opens one that was trained before.

    In a notebook it shows its page.

    Args:
        folder: the run's folder.
        objects: the model and the data that it was trained on, if they were objects.
        trust: whether its checkpoints may name code outside this program, torch and torchvision.

    Attributes:
        folder: the run's folder, an absolute path.
    """

    def __init__(self, folder: str | Path, objects: Objects | None = None, *, trust: bool = False) -> None:
        self.folder = resolve(Path(folder).expanduser().absolute())  # not outputs/latest, which moves on
        self._objects, self._trust = objects or Objects(), trust

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.folder)!r}, status={self.status!r})"

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json: `run.results["test"]["accuracy"]`. Metrics are fractions.

        `test` is None if the run was not tested.
        """
        results = read_results(self.folder)
        return {} if results is None else json.loads(dump(results))

    @property
    def status(self) -> str:
        """The way the run ended: completed, early_stopped, interrupted, diverged or failed."""
        return str(self.results.get("status", "interrupted"))

    @cached_property
    def metrics(self) -> Table:
        """The rows of metrics.csv, one per validation: a list of dicts; `run.metrics["valid_loss"]` is a column.

        `run.metrics.to_frame()` returns a pandas DataFrame.
        """
        rows = read_metrics(self.folder / METRICS) if exists(self.folder / METRICS) else []
        return Table(row.to_dict() for row in rows)

    @cached_property
    def predictor(self) -> Predictor:
        """The best weights with their preprocessing, on the device of the training; see `trainer.load`.

        Raises:
            UserError: the run has no best weights, because it was never validated, or it is not trusted.
        """
        from trainer.inference.checkpoint import open_run
        from trainer.inference.predictor import Predictor

        checkpoint = open_run(self.folder, trusted=self._trust)
        with self._objects.passed():
            return Predictor(checkpoint, device=checkpoint.tree.get("device") or "auto")

    @property
    def model(self) -> nn.Module:
        """The module with the best weights, in eval mode; its inputs are prepared, see `Predictor.prepare`."""
        return self.predictor.model

    def predict(self, samples: Any) -> Tensor:
        """Predict probabilities [N, classes] (float32), or values [N] (float64) in the target's unit, on the CPU.

        Args:
            samples: images or rows, as `Predictor.raw` takes them.

        Raises:
            UserError: one of the samples cannot be used, or the run has no best weights.
        """
        return self.predictor.predict(samples)

    def labels(self, samples: Any) -> list[str] | list[tuple[str, ...]]:
        """Predict the most likely class of each sample, or its labels. For `samples` and `Raises`, see `predict`."""
        return self.predictor.labels(samples)

    def report(self) -> Path:
        """Write the run's page and its missing pictures; return the path of the page, report.html.

        Raises:
            UserError: a file of the run cannot be read.
            RunFailed: a file cannot be written.
        """
        from trainer.report.pages import write_pages_of

        return write_pages_of(self.folder)

    def _repr_html_(self) -> str:
        """Return the run's page in a frame: its styles stay its own, and it runs no code."""
        from trainer.records.record import read
        from trainer.report.run_page import html

        return framed(html(read(self.folder)))


def framed(page: str, allowed: str = "") -> str:
    """Return a page as an element of another one: its styles stay its own, and `allowed` says what it may do."""
    style = f"width: 100%; height: {PAGE_HEIGHT}px; border: 0"
    return f'<iframe sandbox="{allowed}" srcdoc="{escape(page, quote=True)}" style="{style}"></iframe>'
