"""A trained model with all that belongs to it: `trainer.load(RUN).predict(images or rows)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.components.feed import evaluation_size
from trainer.data import raw
from trainer.data.batches import Batches
from trainer.data.fetch import ResidentFetch
from trainer.data.samples import Arrays
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tables.rows import FILLED, Encoder
from trainer.data.tasks import Classification
from trainer.errors import UserError
from trainer.inference.checkpoint import LoadedCheckpoint, open_run
from trainer.inference.model import InferenceModel
from trainer.signals import Signals
from trainer.training import calibration
from trainer.training.calibration import Calibration
from trainer.training.evaluate import evaluate

NOT_FINITE = "what the model gives for it is not finite"


def load(run: str | Path, *, device: str = "auto", calibrated: bool = False, trust: bool = False) -> Predictor:
    """A trained model, in eval mode, with its preprocessing and the names of its classes.

    Args:
        run: a run folder, a checkpoint file in one, or a best.pt that was copied anywhere: the file alone suffices.
        device: auto, cpu, cuda, cuda:N or mps.
        calibrated: divide logits by the temperature that `trainer evaluate RUN --calibrate` stored beside the run.
        trust: the checkpoint may name code outside this program, torch and torchvision. Nothing else in it is run.

    Raises:
        UserError: no such run, or one that cannot be used.
    """
    return Predictor(open_run(run, trusted=trust), device=device, calibrated=calibrated)


class Predictor:
    """A trained model and what it takes to use it.

    Attributes:
        model: in eval mode, on the device; takes what `prepare` gives.
        classes: names in the order of the probabilities; none for a regression.
        prepare: raw samples [B, ...] to the model's inputs; see Prepare and TablePrepare.
        temperature: what logits are divided by.
    """

    def __init__(self, opened: LoadedCheckpoint, *, device: str = "auto", calibrated: bool = False) -> None:
        self.saved, self.about = opened, opened.about
        self.config = opened.config("model", "precision", "batch_size")
        self.forward = InferenceModel(opened, device, self.config.precision)
        self.model, self.device, self.task = self.forward.model, self.forward.device, self.about.task
        self.classes, self.prepare = self.about.classes, self.about.prepare
        self.calibration = stored_calibration(opened) if calibrated else None

    @property
    def temperature(self) -> float:
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a table's columns, in the order of a row without names; empty for images."""
        return tuple(c.name for c in self.prepare.columns) if isinstance(self.prepare, TablePrepare) else ()

    @property
    def takes_images(self) -> bool:
        """Whether it takes images; rows otherwise."""
        return len(self.prepare.shape) == 3

    @property
    def batch_size(self) -> int:
        """Samples of a forward pass, as when the run was tested."""
        return evaluation_size(self.config.batch_size, self.prepare.output_shape)

    def encoder(self) -> Encoder:
        """Rows to raw numbers.

        Raises:
            UserError: the model takes no rows of named columns.
        """
        if not isinstance(self.prepare, TablePrepare):
            raise UserError(f"{self.saved.name}: the model takes no table but {list(self.prepare.shape)}.")
        return Encoder(self.prepare.columns, fill=self.about.fills in FILLED)

    def raw(self, samples: Any) -> Tensor:
        """Images or rows to raw samples [B, ...], as the model's own data set gave them.

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
            return raw.images(samples, self.prepare.shape, self.about.dtype, self.about.geometry)
        return raw.vectors(samples, self.prepare.shape, self.about.dtype)

    def outputs(self, raw_samples: Tensor) -> Tensor:
        """Raw samples [N, ...] to what the model returns, [N, C], on the CPU; in batches as in the run's test.

        A sample of numbers that the model cannot take (1e300 in float32) gives what is not finite, and no other does.
        """
        placeholder = torch.zeros(len(raw_samples), dtype=torch.int64)
        samples, dtype = Arrays(raw_samples, placeholder), next(self.model.parameters()).dtype
        everything = torch.arange(len(raw_samples))
        fetch = ResidentFetch(samples, everything, self.prepare, self.device, dtype, prepared=True)
        batches = Batches(fetch, len(raw_samples), self.batch_size, self.device)
        outputs_NC, _ = evaluate(self.forward, batches, Signals())
        return outputs_NC.cpu()

    def _finite_outputs(self, samples: Any) -> Tensor:
        """
        Raises:
            UserError: one of the samples cannot be used.
        """
        outputs_NC = self.outputs(self.raw(samples))
        odd = (~finite(outputs_NC)).nonzero()[:, 0].tolist()
        if odd:
            raise UserError(f"sample {odd[0]}: {NOT_FINITE}.")
        return outputs_NC

    def probabilities(self, outputs_NC: Tensor) -> Tensor:
        """What the model returns [N, C] to probabilities [N, classes], or to values [N] in the target's unit."""
        if not isinstance(self.task, Classification):
            return self.task.estimates(outputs_NC)[:, 0]
        if self.calibration is None:
            return self.task.probabilities(outputs_NC)
        return calibration.log_probabilities(self.task, outputs_NC, self.temperature).exp().float()

    def predict(self, samples: Any) -> Tensor:
        """Probabilities [N, classes] (float32), or values [N] (float64) in the target's unit, on the CPU.

        Args:
            samples: see `raw`.

        Raises:
            UserError: one of the samples cannot be used.
        """
        return self.probabilities(self._finite_outputs(samples))

    def labels(self, samples: Any) -> list[str]:
        """The likeliest class of each sample.

        Raises:
            UserError: one of the samples cannot be used, or there are no classes.
        """
        if not isinstance(self.task, Classification):
            raise UserError(f"{self.saved.name}: a regression has no classes; `predict` gives its values.")
        return [self.classes[i] for i in self.task.predictions(self._finite_outputs(samples)).tolist()]


def stored_calibration(opened: LoadedCheckpoint) -> Calibration:
    """The temperature that was stored beside a run, or beside a lone checkpoint.

    Raises:
        UserError: there is none, or it belongs to other weights.
    """
    if not opened.about.classes:
        raise UserError(f"{opened.name}: a regression has no probabilities to calibrate.")
    return calibration.read(opened.folder, opened.digest)


def finite(values: Tensor) -> Tensor:
    """[N], whether all of a sample's values [N] or [N, C] are finite."""
    return values.isfinite().view(len(values), -1).all(1)


def top(probabilities_C: Tensor, predicted: int, count: int) -> list[int]:
    """The `count` likeliest classes; the predicted one first, also where rounding made it equal to another."""
    order: Sequence[int] = probabilities_C.argsort(descending=True, stable=True).tolist()
    return [predicted, *(label for label in order if label != predicted)][:count]
