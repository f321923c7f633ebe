"""Devices and their capabilities."""

from __future__ import annotations

import pytest
import torch

from trainer import device
from trainer.errors import UserError


def test_precision_and_what_a_device_lacks() -> None:
    assert device.dtype_of("bfloat16", torch.device("mps")) == torch.float32
    assert device.dtype_of("float64", torch.device("cpu")) == torch.float64
    with pytest.raises(UserError, match=r"precision=float64: .* Use device=cpu\."):
        device.dtype_of("float64", torch.device("mps"))
    assert [device.exact_dtype(torch.device(name)) for name in ("cpu", "mps")] == [torch.float64, torch.float32]


@pytest.mark.parametrize(("count", "name", "reason"), [(0, "cuda", "torch sees no CUDA"), (1, "cuda:1", "there is 1")])
def test_a_device_that_is_not_there(count: int, name: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(UserError, match=f"device={name}: {reason}"):
        device.choose(name)


def test_auto_takes_the_first_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.choose() == torch.device("cuda:0")
    assert device.choose("cuda") == torch.device("cuda:0")
    assert device.accelerators() == ["cuda:0", "cuda:1"]
