"""The state of a run: everything that resuming it needs, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from trainer.config.schema import Config
from trainer.records.metrics import MetricsRow, moment
from trainer.training.freeze import FrozenParameters
from trainer.training.schedule import Schedule
from trainer.training.sums import RunningSums
from trainer.training.watch import Watch


@dataclass
class Best:
    """The best validation so far.

    Attributes:
        value: the monitored metric.
        epoch: finished epochs at that time.
        step: finished optimizer steps at that time.
        weights: a copy of the evaluated state dict, on the CPU.
        row: the validation's row of metrics.csv.
    """

    value: float
    epoch: int
    step: int
    weights: dict[str, Tensor]
    row: MetricsRow


@dataclass(eq=False)
class RunState:
    """The state of one run. Two states are equal only if they are the same object.

    Attributes:
        model: the model, on its device.
        optimizer: updates the parameters that are trained.
        schedule: changes the learning rates of `optimizer`.
        scaler: scales the loss in float16; disabled otherwise.
        sums: loss and accuracy since the last validation.
        config: the run's configuration.
        frozen: parameters and modules that are frozen, perhaps until `unfreeze_at`.
        steps_per_epoch: optimizer steps of an epoch.
        average: a moving average of the weights, evaluated instead of the model; None if the run has none.
        watch: statistics of each layer's gradients and activations; None unless debug.gradients is on.
        epoch: finished epochs.
        batch: finished batches of the current epoch.
        step: finished optimizer steps.
        validated_step: the step of the last validation; -1 before the first.
        num_bad_validations: validations in a row without a new best.
        lr: learning rate of the last step.
        seconds: training time over all sessions of the run.
        best: the best validation; None before the first.
        history: the rows of metrics.csv.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    scaler: GradScaler
    sums: RunningSums
    config: Config
    frozen: FrozenParameters = field(default_factory=FrozenParameters)
    steps_per_epoch: int = 1
    average: AveragedModel | None = None
    watch: Watch | None = None
    epoch: int = 0
    batch: int = 0
    step: int = 0
    validated_step: int = -1
    num_bad_validations: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    best: Best | None = None
    history: list[MetricsRow] = field(default_factory=list)

    COUNTERS = ("epoch", "batch", "step", "validated_step", "num_bad_validations", "lr", "seconds")
    KEYS = frozenset(
        (*COUNTERS, "model", "average", "optimizer", "schedule", "scaler", "sums", "watch", "best", "history")
    )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs: tensors and plain values, so that weights_only=True loads it.

        Tensors are not copied. Best weights that equal the current ones are stored once.
        """
        best_is_current = self.best is not None and self.best.step == self.step and self.average is None
        best = self.best and {
            **vars(self.best),
            "weights": None if best_is_current else self.best.weights,
            "row": self.best.row.to_dict(),
        }
        return {
            "model": self.model.state_dict(),
            "average": self.average and self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "sums": self.sums.state_dict(),
            "watch": self.watch and self.watch.state_dict(),
            "best": best,
            "history": [row.to_dict() for row in self.history],
            **{name: getattr(self, name) for name in self.COUNTERS},
        }

    def load_state_dict(self, saved: dict[str, Any], *, schedule: bool = True) -> None:
        """Restore everything that `state_dict` returned.

        Args:
            saved: the state, on the CPU.
            schedule: whether to restore the schedule and the learning rates; False keeps the present ones.
        """
        self.model.load_state_dict(saved["model"])
        if self.average is not None and saved["average"] is not None:
            self.average.load_state_dict(saved["average"])
        rates = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(saved["optimizer"])
        if schedule:
            self.schedule.load_state_dict(saved["schedule"])
        else:
            for group, fresh in zip(self.optimizer.param_groups, rates, strict=True):
                group.update({name: value for name, value in fresh.items() if name != "params"})
        self.scaler.load_state_dict(saved["scaler"])
        self.sums.load_state_dict(saved["sums"])
        if self.watch is not None and saved["watch"] is not None:  # debug.gradients may change on resume
            self.watch.load_state_dict(saved["watch"])
        for name in self.COUNTERS:
            setattr(self, name, saved[name])
        self.history = [MetricsRow.from_dict(row) for row in saved["history"]]
        if saved["best"] is not None:
            weights = saved["best"]["weights"] or {k: v.clone() for k, v in saved["model"].items()}
            row = MetricsRow.from_dict(saved["best"]["row"])
            self.best = Best(**{**saved["best"], "weights": weights, "row": row})

    @property
    def best_moment(self) -> str | None:
        """The best validation as `epoch 3` or, inside an epoch, `step 200`; None before the first."""
        return None if self.best is None else moment(self.best.epoch, self.best.step, self.steps_per_epoch)

    @property
    def evaluated(self) -> nn.Module:
        """The module that is evaluated: the average of the weights if there is one, else the model."""
        return self.model if self.average is None else self.average.module

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the evaluated state dict, on the CPU."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.evaluated.state_dict().items()}
