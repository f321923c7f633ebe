"""Arrays of images, rows or sequences as raw samples, in memory or mapped from their file.

Shape letters: N samples, B samples of a batch, C channels, H and W pixels, F features, T steps of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from trainer import device
from trainer.data.arrays.stored import CHUNK_BYTES, NamedArray, OpenFile, StoredArray, shape_of
from trainer.data.samples import Arrays, Samples
from trainer.errors import Problem, UserError, did_you_mean

LAYOUTS = {
    "NF": "rows",
    "NTF": "sequences",
    "NHW": "grey images",
    "NHWC": "images, channels last",
    "NCHW": "images, channels first",
}
MEMORY_SHARE = 0.25  # of the free memory: larger files are mapped


@dataclass(frozen=True)
class MemoryArray:
    """An array of a Python program."""

    name: str
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def read(self) -> np.ndarray:
        return self.array


@dataclass(frozen=True)
class Pair:
    """The inputs of a split and their targets."""

    inputs: NamedArray
    targets: NamedArray


@dataclass(frozen=True)
class Form:
    """What the inputs [B, ...] of an array become: raw samples of a dtype, images with channels first.

    Attributes:
        layout: one of `LAYOUTS`.
    """

    layout: str
    dtype: torch.dtype

    def __call__(self, array: np.ndarray) -> Tensor:
        array = np.require(array.astype(array.dtype.newbyteorder("="), copy=False), requirements=["C", "W"])
        tensor = torch.from_numpy(array).to(self.dtype)
        if self.layout == "NHW":
            return tensor[:, None]
        return tensor.permute(0, 3, 1, 2).contiguous() if self.layout == "NHWC" else tensor


def layout_of(shape: tuple[int, ...], dtype: np.dtype, name: str, typed: str | None = None) -> str:
    """Return the layout of inputs: `data.layout`, or what their shape suggests.

    Raises:
        UserError: the shape fits none, or is ambiguous.
    """
    shown = f"{name} is {dtype.name} {list(shape)}"
    if typed is not None:
        if typed not in LAYOUTS:
            reason = f"expected {', '.join(LAYOUTS)}"
            raise UserError(Problem("data.layout", reason, given=typed, advice=did_you_mean(typed, LAYOUTS)))
        if len(typed) != len(shape):
            raise UserError(Problem("data.layout", f"{shown}, of {len(shape)} axes", given=typed, check="shapes"))
        return typed
    match shape:
        case (_, _):
            return "NF"
        case (_, height, width):
            return "NHW" if dtype == np.uint8 or height == width else "NTF"
        case (_, first, second, last) if last < min(first, second):
            return "NHWC"
        case (_, first, second, last) if first < min(second, last):
            return "NCHW"
        case (_, _, _, _):
            reason = f"{shown}; which axis holds the channels is not clear from that"
            advice = "Set data.layout=NCHW or data.layout=NHWC."
            raise UserError(Problem("data.x", reason, advice=advice, check="shapes"))
    reason = f"{shown}; expected rows [N, F], sequences [N, T, F], or images [N, H, W], [N, H, W, C] or [N, C, H, W]"
    raise UserError(Problem("data.x", reason, check="shapes"))


def convert(
    arrays: Mapping[str, NamedArray], targets: Mapping[str, Tensor], layout: str, missing: str | None
) -> dict[str, Samples]:
    """Return the samples of each split; arrays of large files stay there, mapped into memory.

    Args:
        arrays: inputs by split.
        targets: by split.
        missing: how missing values of rows are filled; None refuses them.

    Raises:
        UserError: a file cannot be read, or a value is not finite.
    """
    for array in arrays.values():
        if array.dtype.kind not in "biuf":
            raise UserError(Problem("data.x", f"{array.name} is {shape_of(array)}; expected numbers", check="shapes"))
    opened = _open(arrays, 8 if layout == "NF" else 4)
    whole = [_check_values(arrays[split].name, values, layout, missing) for split, (values, _) in opened.items()]
    if layout == "NF":
        dtype = torch.float64
    else:
        dtype = torch.uint8 if all(whole) and layout != "NTF" else torch.float32
    form, samples = Form(layout, dtype), dict[str, Samples]()
    for split, (values, file) in opened.items():
        target = targets[split]
        samples[split] = MappedArray(values, file, target, form) if file else Arrays(form(values), target)
    return samples


def _open(arrays: Mapping[str, NamedArray], itemsize: int) -> dict[str, tuple[np.ndarray, OpenFile | None]]:
    """Return the arrays, with the files of those that are mapped.

    Args:
        itemsize: bytes of a converted number.
    """
    stored = {split: array for split, array in arrays.items() if isinstance(array, StoredArray)}
    free = device.free_memory(torch.device("cpu"))
    num_bytes = sum(array.num_bytes // array.dtype.itemsize * itemsize for array in stored.values())
    opened: dict[str, tuple[np.ndarray, OpenFile | None]] = {}
    for split, array in arrays.items():
        if not isinstance(array, StoredArray) or num_bytes <= MEMORY_SHARE * free:
            opened[split] = (array.read(), None)
        elif array.offset is None:
            reason = f"{array.name} is compressed and has {array.num_bytes:,} bytes, too many for the memory"
            advice = "Save it with numpy.savez or numpy.save, which do not compress: it is mapped then."
            raise UserError(Problem("data.path", reason, given=str(array.path), advice=advice))
        else:
            file = OpenFile(array.path)
            opened[split] = (array.map(file.file), file)
    return opened


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the array in parts of a bounded size."""
    size = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), size):
        yield array[start : start + size]


def _check_values(name: str, array: np.ndarray, layout: str, missing: str | None) -> bool:
    """Check that all values are finite; return whether they are whole numbers from 0 to 255.

    Raises:
        UserError: there are infinite or missing values.
    """
    if array.dtype.kind in "bu" and array.dtype.itemsize == 1:
        return True
    if array.dtype.kind in "iu":
        return all(chunk.min() >= 0 and chunk.max() <= 255 for chunk in chunks(array))
    nan = infinite = 0
    for chunk in chunks(array):
        nan, infinite = nan + int(np.isnan(chunk).sum()), infinite + int(np.isinf(chunk).sum())
    if infinite:
        reason = f"{name} holds {infinite:,} infinite numbers"
        raise UserError(Problem("data.x", reason, check="unusable columns"))
    if nan and (layout != "NF" or missing is None):
        advice = "Choose data.missing=mean or median." if layout == "NF" else "Replace them first."
        raise UserError(
            Problem("data.x", f"{name} holds {nan:,} missing values (NaN)", advice=advice, check="missing values")
        )
    return False


class MappedArray(Samples):
    """Samples of a file that is mapped into memory.

    Args:
        array: mapped from `file`, [N, ...].
        file: compared with what it was whenever samples are read.
        targets: [N].
        form: of the samples.
    """

    def __init__(self, array: np.ndarray, file: OpenFile, targets: Tensor, form: Form) -> None:
        self.array, self.file, self.targets, self.form = array, file, targets, form

    def take(self, indices: Tensor) -> Tensor:
        samples = self.form(self.array[indices.numpy()])
        self.file.check()
        return samples

    def fingerprint(self) -> bytes:
        """Return the digest that the same samples have in memory; see `Arrays`."""
        first = self.form(self.array[:1])
        digest = blake2b(str(((len(self), *first.shape[1:]), first.dtype)).encode(), digest_size=16)
        for chunk in chunks(self.array):
            digest.update(self.form(chunk).view(-1).view(torch.uint8).numpy().data)
        digest.update(self.targets.view(-1).view(torch.uint8).numpy().data)
        self.file.check()
        return digest.digest()
