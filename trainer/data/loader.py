"""How a part of the data reaches the device: resident or streamed, and kept for the other runs of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import torch

from trainer.data.batches import Batches, Fetch, ResidentFetch, StreamedFetch, TrainSampling
from trainer.data.dataset import Data, Split
from trainer.data.source import Source

PREPARED_SHARE, RAW_SHARE = 0.25, 0.5  # of the device's free memory that the data may take


class DataCache:
    """Data that several runs of one process, and the processes forked from it, use together; never changed by them.

    Sources and how they are split are kept for good, samples on the device only for the parts that were used last.
    """

    PARTS = 4

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.split: dict[str, Data] = {}
        self.resident: dict[tuple[Any, ...], ResidentFetch] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Goes empty to a process that is not forked: it would cost as much as reading again."""
        return {"sources": {}, "split": {}, "resident": {}}

    def source(self, key: str, make: Callable[[], Source]) -> Source:
        """The source of this key, made where it is new."""
        if key not in self.sources:
            self.sources[key] = make()
        return self.sources[key]

    def data(self, key: str, make: Callable[[], Data]) -> Data:
        """The split and described data of this key, made where it is new; the caller may change it."""
        if key not in self.split:
            self.split[key] = make()
        return self.split[key].copy()

    def part(self, key: tuple[Any, ...], make: Callable[[], ResidentFetch]) -> ResidentFetch:
        """The part of this key, made where it is new."""
        if key not in self.resident:
            while len(self.resident) >= self.PARTS:
                del self.resident[next(iter(self.resident))]
            self.resident[key] = make()
        return self.resident[key]


@dataclass(frozen=True)
class LoaderConfig:
    """How samples reach the device.

    Attributes:
        free_memory: bytes free on the device.
        resident: `auto`, `true` or `false`.
        workers: processes of a streamed part.
        shared: where resident parts are kept for other runs.
    """

    device: torch.device
    dtype: torch.dtype
    free_memory: int
    resident: str = "auto"
    workers: int = 0
    shared: DataCache | None = None


def batches(
    data: Data,
    part: str,
    batch_size: int,
    loading: LoaderConfig,
    draw: TrainSampling | None = None,
    fetch: Fetch | None = None,
) -> Batches:
    """The batches of a part, resident or streamed as `loading` says, unless `fetch` has the samples."""
    split = data.splits[part]
    return Batches(fetch or _fetch(data, split, loading), len(split), batch_size, loading.device, draw)


def _fetch(data: Data, split: Split, loading: LoaderConfig) -> Fetch:
    everything = sum(map(len, data.splits.values()))
    prepared = everything * torch.Size(data.prepare.output_shape).numel() * loading.dtype.itemsize
    raw = everything * torch.Size(data.shape).numel() * split.samples.take(split.indices[:1]).element_size()
    fits = raw <= RAW_SHARE * loading.free_memory
    if split.samples.repeatable and (loading.resident == "true" or (loading.resident == "auto" and fits)):
        keep = prepared <= PREPARED_SHARE * loading.free_memory
        form = (data.prepare, loading.device, loading.dtype)
        make = partial(ResidentFetch, split.samples, split.indices, *form, prepared=keep)
        if loading.shared is None:
            return make()
        which = blake2b(split.indices.numpy().data, digest_size=16)
        which.update(split.loss_targets.contiguous().numpy().data)  # data.relabel changes them alone
        return loading.shared.part((data.fingerprint, which.digest(), *form), make)
    workers = loading.workers if split.samples.repeatable else 0
    return StreamedFetch(split.samples, split.indices, data.prepare, loading.device, loading.dtype, workers=workers)
