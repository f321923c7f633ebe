"""The number of this program's functions between the console script and `optimizer.step()`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trainer import cli

MOST_FRAMES = 8

OPTIMIZER = """
import sys

import torch


class Counting(torch.optim.SGD):
    frames = []

    def step(self, closure=None):
        frame, names = sys._getframe(), []
        while frame is not None:
            names.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back
        Counting.frames = names
        return super().step(closure)
"""


def test_few_frames_stand_between_the_command_and_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("counting.py").write_text(OPTIMIZER)
    monkeypatch.setattr(
        sys, "argv", ["train", "data=iris", "model=mlp", "optim._target_=counting.Counting", "epochs=1", "plots=false"]
    )
    with pytest.raises(SystemExit) as end:
        cli.train()
    assert end.value.code == 0
    package = str(Path(cli.__file__).parent)
    ours = [name for file, name in sys.modules["counting"].Counting.frames if file.startswith(package)]
    assert ours[-1] == "train"
    assert len(ours) <= MOST_FRAMES, ours
