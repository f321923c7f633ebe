"""A trained model with its preprocessing: `trainer.load(RUN).predict(images or rows)`.

Shape letters: B or N samples, C outputs, K columns of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.components.feed import evaluation_size
from trainer.components.objects import Copies, calling_objects
from trainer.config.parse import parse
from trainer.data import raw
from trainer.data.batches import Batches
from trainer.data.dataset import Split
from trainer.data.fetch import InputForm, ResidentFetch
from trainer.data.multilabel import MultiLabel
from trainer.data.regression import Regression
from trainer.data.samples import Arrays
from trainer.data.streams import kept_streams
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tables.rows import FILLED, Encoder
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError
from trainer.inference.checkpoint import LoadedCheckpoint, open_run
from trainer.inference.model import InferenceModel
from trainer.signals import Signals
from trainer.training import calibration
from trainer.training.calibration import Calibration
from trainer.training.evaluate import evaluate

NOT_FINITE = "the model's output for it is not finite"


def load(
    run: str | Path,
    *,
    device: str = "auto",
    calibrated: bool = False,
    trust: bool = False,
    model: nn.Module | type[nn.Module] | None = None,
) -> Predictor:
    """Load a trained model, in eval mode, with its preprocessing and the names of its classes.

    Args:
        run: a run folder, a checkpoint file in one, or a copy of best.pt, which is self-contained.
        device: auto, cpu, cuda, cuda:N or mps.
        calibrated: divide logits by the temperature that `trainer evaluate RUN --calibrate` stored beside the run.
        trust: whether the checkpoint may name code outside this program, torch and torchvision. Nothing else in it
            is executed.
        model: the model or class that the run was trained on, if it was an object; it is copied.

    Raises:
        UserError: there is no such run, or it cannot be used.
    """
    factory = Copies(model) if isinstance(model, nn.Module) else model
    with calling_objects({} if factory is None else {"model": factory}):
        return Predictor(open_run(run, trusted=trust), device=device, calibrated=calibrated)


class Predictor:
    """A trained model with its preprocessing and classes; `trainer.load` returns one.

    Attributes:
        model: the module, in eval mode, on the device; its inputs are those that `prepare` returns.
        classes: names in the order of the probabilities, also of labels; empty for a regression.
        prepare: converts raw samples [B, ...] to the model's inputs; see Prepare and TablePrepare.
        temperature: the divisor of the logits.
    """

    def __init__(self, checkpoint: LoadedCheckpoint, *, device: str = "auto", calibrated: bool = False) -> None:
        self.checkpoint, self.metadata = checkpoint, checkpoint.metadata
        self.config = checkpoint.config("precision", "batch_size")
        typed, problems = parse({"device": device})
        if problems:
            raise UserError(*problems)
        self.forward = InferenceModel(checkpoint, typed.device, self.config.precision)
        self.model, self.device = self.forward.model, self.forward.device
        self.task, self.classes, self.prepare = self.metadata.task, self.metadata.classes, self.metadata.prepare
        self.calibration = stored_calibration(checkpoint) if calibrated else None

    @property
    def temperature(self) -> float:
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a table's columns, in the order of a row without names; empty for images."""
        return tuple(c.name for c in self.prepare.columns) if isinstance(self.prepare, TablePrepare) else ()

    @property
    def takes_images(self) -> bool:
        """True if the model takes images; False if it takes rows."""
        return len(self.prepare.shape) == 3

    @property
    def batch_size(self) -> int:
        """Number of samples in a forward pass, the same as in the run's test."""
        return evaluation_size(self.config.batch_size, self.prepare.output_shape)

    def encoder(self) -> Encoder:
        """Return the encoder of rows to raw numbers.

        Raises:
            UserError: the model does not take rows of named columns.
        """
        if not isinstance(self.prepare, TablePrepare):
            reason = f"the model takes samples of shape {list(self.prepare.shape)}, not a table"
            raise UserError(Problem(self.checkpoint.name, reason))
        return Encoder(self.prepare.columns, fill=self.checkpoint.missing in FILLED)

    def raw(self, samples: Any) -> Tensor:
        """Convert images or rows to raw samples [B, ...], as the model's own data set returned them.

        Args:
            samples: images: a path, a Pillow image, an array or tensor [B, C, H, W] or [C, H, W] (uint8, or floats
                from 0 to 1), or a list of these. Rows: {column: value}, values in the order of `columns`, a list of
                these, or an array [B, K].

        Raises:
            UserError: one of them cannot be used.
        """
        if isinstance(self.prepare, TablePrepare):
            return raw.rows(samples, self.encoder())
        if self.takes_images:
            return raw.images(samples, self.prepare.shape, self.metadata.dtype, self.checkpoint.decode_spec)
        return raw.vectors(samples, self.prepare.shape, self.metadata.dtype)

    def outputs(self, raw_samples: Tensor) -> Tensor:
        """Compute the model's outputs [N, C], on the CPU, for raw samples [N, ...], in batches as in the run's test.

        A sample whose numbers the model cannot represent (1e300 in float32) has outputs that are not finite; the
        others are not affected.
        """
        no_targets = torch.zeros(len(raw_samples), dtype=torch.int64)
        samples, dtype = Arrays(raw_samples, no_targets), next(self.model.parameters()).dtype
        split, form = Split(samples, torch.arange(len(raw_samples))), InputForm(self.prepare, self.device, dtype)
        fetch = ResidentFetch(split, form, prepared=True)
        batches = Batches(fetch, len(raw_samples), self.batch_size, self.device)
        with kept_streams(self.device):  # the caller's
            outputs_NC, _ = evaluate(self.forward, batches, Signals())
        return outputs_NC.cpu()

    def _finite_outputs(self, samples: Any) -> Tensor:
        """Compute the outputs for samples in any form that `raw` accepts."""
        outputs_NC = self.outputs(self.raw(samples))
        nonfinite = (~finite(outputs_NC)).nonzero()[:, 0].tolist()
        if nonfinite:
            raise UserError(Problem(f"sample {nonfinite[0]}", NOT_FINITE))
        return outputs_NC

    def probabilities(self, outputs_NC: Tensor) -> Tensor:
        """Convert outputs [N, C] to probabilities [N, classes], or to values [N] or [N, K] in the targets' units."""
        if isinstance(self.task, Regression):
            return self.task.values(outputs_NC)
        if isinstance(self.task, MultiLabel) or self.calibration is None:
            return self.task.probabilities(outputs_NC)
        return calibration.log_probabilities(self.task, outputs_NC, self.temperature).exp().float()

    def predict(self, samples: Any) -> Tensor:
        """Predict probabilities [N, classes] (float32), or values [N] (float64) in the target's unit, on the CPU.

        Labels have a probability each; values of a regression on K targets are [N, K].

        Args:
            samples: see `raw`.

        Raises:
            UserError: one of the samples cannot be used.
        """
        return self.probabilities(self._finite_outputs(samples))

    def labels(self, samples: Any) -> list[str] | list[tuple[str, ...]]:
        """Predict the most likely class of each sample, or in a multi-label task all labels above 0.5.

        Raises:
            UserError: one of the samples cannot be used, or there are no classes.
        """
        if isinstance(self.task, Regression):
            reason = "a regression has no classes; `predict` gives its values"
            raise UserError(Problem(self.checkpoint.name, reason))
        predictions = self.task.predictions(self._finite_outputs(samples)).tolist()
        if isinstance(self.task, MultiLabel):
            return [tuple(compress(self.classes, row)) for row in predictions]
        return [self.classes[i] for i in predictions]


def stored_calibration(checkpoint: LoadedCheckpoint) -> Calibration:
    """Read the temperature that was stored beside a run, or beside a lone checkpoint.

    Raises:
        UserError: there is no temperature, or it belongs to other weights.
    """
    if reason := uncalibrated(checkpoint.metadata.task):
        raise UserError(Problem(checkpoint.name, reason))
    return calibration.read(checkpoint.folder, checkpoint.digest)


def uncalibrated(task: Task) -> str | None:
    """Return why the predictions of a task have no temperature; None if they may have one."""
    if isinstance(task, MultiLabel):
        return "a temperature is fitted for one class per sample, and this model predicts any number of labels"
    return "a regression has no probabilities to calibrate" if isinstance(task, Regression) else None


def finite(values: Tensor) -> Tensor:
    """Return a mask [N] of the samples whose values, [N] or [N, C], are all finite."""
    return values.isfinite().view(len(values), -1).all(1)


def top(probabilities_C: Tensor, predicted: int, count: int) -> list[int]:
    """Return the `count` most likely classes; the predicted one first, even if another one is equal after rounding."""
    order: Sequence[int] = probabilities_C.argsort(descending=True, stable=True).tolist()
    return [predicted, *(label for label in order if label != predicted)][:count]
