"""Deterministic preprocessing of images and feature vectors: resizing or padding, and normalisation.

Shape letters: B samples of a batch, C channels, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Prepare:
    """Preprocessing of raw samples. Stored in checkpoints, so that a checkpoint is enough to predict.

    Attributes:
        shape: shape of a raw sample, (C, H, W) or (F,).
        mean, std: per channel, in the raw unit (0 to 255 for images).
        size: height and width of the output: images are padded evenly if they lack at most 4 pixels, and resized
            bilinearly otherwise; None keeps their size.
        channels: number of channels that grey images are repeated to, for models trained on colour; None keeps one.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    channels: int | None = None

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a model input."""
        return (self.channels or self.shape[0], *(self.size or self.shape[1:]))

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of a model input; grey images that are repeated share theirs."""
        channels = self.output_shape[0]
        mean, std = (values * channels if len(values) == 1 else values for values in (self.mean, self.std))
        return mean, std

    @property
    def padding(self) -> tuple[int, int, int, int] | None:
        """Pixels to add (left, right, top, bottom); None if images are resized or keep their size."""
        if self.size is None:
            return None
        missing = [target - actual for target, actual in zip(self.size, self.shape[1:], strict=True)]
        if min(missing) < 0 or max(missing) > 4:
            return None
        height, width = missing
        return width // 2, width - width // 2, height // 2, height - height // 2

    def __call__(self, raw: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Prepare raw samples [B, *shape] of any dtype: [B, *output_shape] of `dtype`, on the same device."""
        mean, std = _per_channel(self, dtype, raw.device)
        if self.channels and raw.shape[1] != self.channels:
            raw = raw.expand(-1, self.channels, -1, -1)
        if self.size is None or self.size == tuple(self.shape[1:]):
            # Bytes become numbers in the subtraction: one pass over memory instead of two.
            return torch.sub(raw if raw.dtype == torch.uint8 else raw.to(dtype), mean).div_(std)
        inputs = raw.to(dtype)
        if self.padding:
            inputs = F.pad(inputs, self.padding)
        else:
            inputs = F.interpolate(inputs, self.size, mode="bilinear", antialias=True)
        return inputs.sub_(mean).div_(std)

    def describe(self) -> str | None:
        """Describe how size and channels of the images change, for the header; None if they do not."""
        changes = []
        if self.size is not None and self.size != tuple(self.shape[1:]):
            verb = "padded" if self.padding else "resized"
            changes.append(f"{verb} from {self.shape[1]}x{self.shape[2]} to {self.size[0]}x{self.size[1]}")
        if self.channels and self.channels != self.shape[0]:
            changes.append(f"repeated from {self.shape[0]} to {self.channels} channels")
        return " and ".join(changes) or None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Prepare:
        """Return the object that `to_dict` was called on."""
        size = tuple(stored["size"]) if stored["size"] else None
        return cls(tuple(stored["shape"]), tuple(stored["mean"]), tuple(stored["std"]), size, stored.get("channels"))


@lru_cache(maxsize=16)
def _per_channel(prepare: Prepare, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    trailing = (-1,) + (1,) * (len(prepare.shape) - 1)
    mean, std = (torch.tensor(values, dtype=dtype, device=device) for values in (prepare.mean, prepare.std))
    return mean.view(trailing), std.view(trailing)


def channel_statistics(batches: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel of batches of uint8 images [B, C, H, W].

    They are exact up to rounding, because they are computed from histograms. A constant channel gets a standard
    deviation of 1.
    """
    levels = torch.arange(256, dtype=torch.float64)
    counts: Tensor | int = 0
    for raw in batches:
        counts = counts + torch.stack([torch.bincount(x.reshape(-1), minlength=256) for x in raw.unbind(1)])
    assert isinstance(counts, Tensor)
    shares = counts / counts.sum(1, keepdim=True).double()
    means = [float(share @ levels) for share in shares]
    stds = [float((share @ (levels - mean).square()).sqrt()) or 1.0 for share, mean in zip(shares, means, strict=True)]
    return tuple(means), tuple(stds)


def float_statistics(batches: Callable[[], Iterable[Tensor]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel of images of floats [B, C, H, W]; 1 for a constant channel.

    Args:
        batches: yields all images in batches; called twice.
    """
    count = 0
    sums: Tensor | float = 0.0
    for raw in batches():
        sums, count = sums + raw.double().sum((0, 2, 3)), count + raw[:, 0].numel()
    mean = torch.as_tensor(sums) / count
    squares = sum((raw.double() - mean[:, None, None]).square().sum((0, 2, 3)) for raw in batches())
    std = (torch.as_tensor(squares) / count).sqrt()
    return tuple(mean.tolist()), tuple(value or 1.0 for value in std.tolist())
