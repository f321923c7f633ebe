"""Batches of a split, resident or streamed, and the data that the runs of a sweep share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import torch

from trainer.data.batches import Batches, TrainSampling
from trainer.data.dataset import Data, Split
from trainer.data.fetch import Fetch, InputForm, ResidentFetch, StreamedFetch
from trainer.data.source import Source
from trainer.errors import Problem, UserError

PREPARED_SHARE, RAW_SHARE = 0.25, 0.5  # of the device's free memory that prepared and raw data may take


class DataCache:
    """Data that the runs of a process, and of processes forked from it, share without changing it.

    Attributes:
        sources: by their configuration; kept for good, like `data`.
        data: split and described sources, by source and splitting.
        resident: the splits last loaded to the device, by content and form.
    """

    MAX_RESIDENT = 4

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.data: dict[str, Data] = {}
        self.resident: dict[tuple[Any, ...], ResidentFetch] = {}

    def __getstate__(self) -> dict[str, dict]:
        """Pickle as an empty cache: sending the data costs as much as reading it again."""
        return {"sources": {}, "data": {}, "resident": {}}

    def get_source(self, key: str, make: Callable[[], Source]) -> Source:
        """Return the source of this key, made on first use."""
        if key not in self.sources:
            self.sources[key] = make()
        return self.sources[key]

    def get_data(self, key: str, make: Callable[[], Data]) -> Data:
        """Return a copy, which the caller may change, of the split data of this key, made on first use."""
        if key not in self.data:
            self.data[key] = make()
        return self.data[key].copy()

    def get_resident(self, key: tuple[Any, ...], make: Callable[[], ResidentFetch]) -> ResidentFetch:
        """Return the resident split of this key, made on first use; the oldest makes room for it."""
        if key not in self.resident:
            while len(self.resident) >= self.MAX_RESIDENT:
                del self.resident[next(iter(self.resident))]
            self.resident[key] = make()
        return self.resident[key]


@dataclass(frozen=True)
class LoaderConfig:
    """The settings of how samples reach the device.

    Attributes:
        free_memory: bytes free on the device.
        resident: whether to keep all samples on the device; None: if they fit.
        workers: processes that read a streamed split.
        cache: shares resident splits with other runs.
    """

    device: torch.device
    dtype: torch.dtype
    free_memory: int
    resident: bool | None = None
    workers: int = 0
    cache: DataCache | None = None


def make_batches(
    data: Data,
    name: str,
    batch_size: int,
    config: LoaderConfig,
    sampling: TrainSampling | None = None,
    fetch: Fetch | None = None,
) -> Batches:
    """Return the batches of the split `name`; `fetch` is by default resident or streamed, as `config` says.

    Raises:
        UserError: samples that change are to be resident.
    """
    split = data.splits[name]
    return Batches(fetch or _make_fetch(data, split, config), len(split), batch_size, config.device, sampling)


def _make_fetch(data: Data, split: Split, config: LoaderConfig) -> Fetch:
    form = InputForm(data.prepare, config.device, config.dtype)
    num_samples = sum(map(len, data.splits.values()))
    prepared_bytes = num_samples * torch.Size(data.prepare.output_shape).numel() * config.dtype.itemsize
    element_bytes = split.samples.take(split.indices[:1]).element_size()
    raw_bytes = num_samples * torch.Size(data.shape).numel() * element_bytes
    if config.resident and not split.samples.fixed:
        reason = "the data set's samples change from one reading to the next, so none can be kept"
        advice = "Leave it out: they are streamed."
        raise UserError(Problem("data.resident", reason, given="true", advice=advice))
    fits = raw_bytes <= RAW_SHARE * config.free_memory
    if split.samples.fixed and (config.resident or (config.resident is None and fits)):
        prepared = prepared_bytes <= PREPARED_SHARE * config.free_memory
        make = partial(ResidentFetch, split, form, prepared=prepared)
        if config.cache is None:
            return make()
        digest = blake2b(split.indices.numpy().data, digest_size=16)
        digest.update(split.loss_targets.contiguous().numpy().data)  # data.relabel changes nothing but these
        return config.cache.get_resident((data.fingerprint, digest.digest(), form), make)
    return StreamedFetch(split, form, workers=config.workers if split.samples.repeatable else 0)
