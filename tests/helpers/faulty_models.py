"""User models that fail, are slow or have side effects, and the YAML files that name them."""

from __future__ import annotations

import textwrap
from pathlib import Path

# A model that fails at training step `at`, counted in a buffer, so that the count survives a resume.
FAULTY = """
import os, pathlib, signal, sys, time
import torch
from torch import nn

class Faulty(nn.Module):
    def __init__(self, in_features, num_outputs, fault="none", at=3, delay=0.02, width=8):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, num_outputs))
        self.register_buffer("steps", torch.tensor(0))
        self.fault, self.at, self.delay = fault, at, delay

    def forward(self, x):
        outputs = self.net(x)
        if self.training:
            self.steps += 1
            if self.steps >= self.at and not pathlib.Path("cured").exists():
                return getattr(self, self.fault)(outputs)
        elif self.fault == "untested" and len(x) == 30:
            raise ValueError("no test for me")
        return outputs

    def none(self, outputs):
        return outputs

    untested = none

    def slow(self, outputs):
        time.sleep(self.delay)
        return outputs

    def waits(self, outputs):
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        return outputs

    def raises(self, outputs):
        raise ValueError("no good")

    def exits(self, outputs):
        sys.exit(3)

    def ends(self, outputs):
        os._exit(0)

    def killed(self, outputs):
        os.kill(os.getpid(), signal.SIGKILL)

    def memory(self, outputs):
        return outputs + torch.empty(2**50).sum()

    def infinite(self, outputs):
        return outputs * torch.inf
"""


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def write_faulty() -> tuple[str, ...]:
    """Write the model, and return the overrides of a sweep over `model.fault`."""
    write("faulty.py", FAULTY)
    write("conf/model/faulty.yaml", "# Ours\n_target_: faulty.Faulty\nfault: none\nat: 3\n")
    return ("data=iris", "model=faulty", "threads=1", "plots=false")


# A model with global side effects, and a model that reports those of other jobs.
RUDE = """
import os, random, warnings
import numpy, torch
from torch import nn

def rude():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    numpy.random.seed(1)
    random.seed(1)
    os.environ["RUDE"] = "1"
    warnings.simplefilter("error")
    nn.Linear.reset_parameters = lambda self: (nn.init.zeros_(self.weight), nn.init.zeros_(self.bias))

class Rude(nn.Module):
    def __init__(self, in_features, num_outputs, moment=""):
        super().__init__()
        self.net = nn.Linear(in_features, num_outputs)
        if moment == "constructor":
            rude()
        self.moment = moment

    def forward(self, x):
        if self.moment == "forward" and self.training:
            rude()
        return self.net(x)
"""
PROBE = """
import os, warnings
import numpy, torch
from torch import nn

class Probe(nn.Linear):
    def __init__(self, in_features, num_outputs):
        super().__init__(in_features, num_outputs)
        filters = [name for name, *_ in warnings.filters].count("error")
        print("probe", torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(),
              os.environ.get("RUDE"), filters, torch.initial_seed(), numpy.random.get_state()[1][0] == 1)
"""


# A model that can be stacked and counts its training steps in Python, so that its faults hit the whole process.
PATIENT = """
import os, pathlib, signal, time
import torch
from torch import nn
from torch.nn import functional as F

class Patient(nn.Module):
    def __init__(self, in_features, num_outputs, fault="none", at=20, width=6, dropout=0.2):
        super().__init__()
        self.inner, self.outer = nn.Linear(in_features, width), nn.Linear(width, num_outputs)
        self.norm, self.drop = nn.BatchNorm1d(width), nn.Dropout(dropout)
        self.register_buffer("seen", torch.tensor(0.0))
        self.fault, self.at, self.count = fault, at, 0

    def forward(self, x):
        hidden = self.drop(self.norm(self.inner(x)).relu())
        if self.training:
            self.count += 1
            if self.count >= self.at and not pathlib.Path("cured").exists():
                hidden = getattr(self, self.fault)(hidden)
        return self.outer(hidden)

    def none(self, hidden):
        return hidden

    def raises(self, hidden):
        raise ValueError("no good")

    def killed(self, hidden):
        os.kill(os.getpid(), signal.SIGKILL)

    def ends(self, hidden):
        os._exit(3)

    def waits(self, hidden):
        pathlib.Path("waiting").touch()
        time.sleep(3600)

    def draws(self, hidden):
        return F.dropout(hidden, 0.5)

    def looks(self, hidden):
        return hidden if hidden.is_meta or hidden.sum() > 0 else -hidden

    def assigns(self, hidden):
        self.seen = self.seen + 1
        return hidden * self.seen
"""


def write_patient() -> tuple[str, ...]:
    """Write the model, and return the overrides of a sweep that can be stacked unless it fails in the first steps."""
    write("patient.py", PATIENT)
    write("conf/model/patient.yaml", "# Ours\n_target_: patient.Patient\nfault: none\nat: 20\n")
    return ("data=iris", "model=patient", "threads=1", "plots=false", "precision=float64", "sweep.workers=1")


# A model that counts its training steps.
COUNTING = """
import pathlib, resource, signal, time
from torch import nn

class Net(nn.Linear):
    def __init__(self, in_features, num_outputs):
        super().__init__(in_features, num_outputs)
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
{lines}
        return super().forward(x)
"""


def write_counting(lines: str) -> tuple[str, ...]:
    """Write a linear model that runs these lines in each pass, and return the overrides of a run with it."""
    write("counting.py", COUNTING.replace("{lines}", textwrap.indent(textwrap.dedent(lines).strip(), " " * 8)))
    return ("data=iris", "model._target_=counting.Net", "threads=1", "plots=false")
