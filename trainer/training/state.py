"""RunState: all that a run is and all that its resumption needs, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from trainer.config.schema import Config
from trainer.training.schedule import Schedule
from trainer.training.sums import RunningSums
from trainer.training.watch import Watch


@dataclass
class Best:
    """The best validation so far.

    Attributes:
        value: of the monitored column.
        epoch, step: finished epochs and optimizer steps then.
        weights: the model's state dict then, a copy.
        row: of metrics.csv.
    """

    value: float
    epoch: int
    step: int
    weights: dict[str, Tensor]
    row: dict[str, Any]


@dataclass(eq=False)
class RunState:
    """One run; equal to nothing but itself.

    Attributes:
        config: what was asked of it.
        average: a moving average of the weights; where there is one, it is what is evaluated and kept as the best.
        watch: sums of each layer's gradients and activations; None unless debug.gradients asks for it.
        epoch: finished epochs.
        batch: finished batches of the epoch under way.
        step: finished optimizer steps.
        validated_step: the step at which the last validation was made; -1 before the first.
        num_bad_validations: validations in a row without a new best.
        lr: learning rate of the last step.
        seconds: of training, over all sessions of the run.
        history: the rows of metrics.csv.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    scaler: GradScaler
    sums: RunningSums
    config: Config
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
    history: list[dict[str, Any]] = field(default_factory=list)

    COUNTERS = ("epoch", "batch", "step", "validated_step", "num_bad_validations", "lr", "seconds")
    KEYS = frozenset((*COUNTERS, "model", "optimizer", "schedule", "scaler", "sums", "best", "history", "random"))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that it loads with `weights_only=True`.

        Tensors are not copied, except that best weights equal to the present ones are stored once.
        """
        same = self.best is not None and self.best.step == self.step and self.average is None
        best = self.best and {**vars(self.best), "weights": None if same else self.best.weights}
        return {
            "model": self.model.state_dict(),
            "average": self.average and self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "sums": self.sums.state_dict(),
            "watch": self.watch and self.watch.state_dict(),
            "best": best,
            "history": self.history,
            "random": _random_state(),
            **{name: getattr(self, name) for name in self.COUNTERS},
        }

    def load_state_dict(self, saved: dict[str, Any], *, schedule: bool = True) -> None:
        """Takes over everything that `state_dict` gave; `schedule=False` leaves the schedule and the rates alone."""
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
        if self.watch is not None and saved.get("watch") is not None:  # it may be switched on and off on resume
            self.watch.load_state_dict(saved["watch"])
        for name in self.COUNTERS:
            setattr(self, name, saved[name])
        self.history = saved["history"]
        if saved["best"] is not None:
            weights = saved["best"]["weights"] or {k: v.clone() for k, v in saved["model"].items()}
            self.best = Best(**{**saved["best"], "weights": weights})
        _restore_random(saved["random"])

    @property
    def evaluated(self) -> nn.Module:
        """What validation judges: the average of the weights if there is one, else the model."""
        return self.model if self.average is None else self.average.module

    def weights(self) -> dict[str, Tensor]:
        """A copy of the state dict of what is evaluated, on the CPU."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.evaluated.state_dict().items()}


def _random_state() -> dict[str, Any]:
    """torch's own streams, for modules that draw from them (`F.dropout`, stochastic depth)."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def _restore_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
