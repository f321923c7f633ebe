"""Conversion of images, rows and vectors from a user's program to raw samples like those of the training data.

Shape letters: B samples, C channels, H and W pixels, K columns of a table, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainer.data.images.decode import BadImage, DecodeSpec, decode, from_image
from trainer.data.tables.rows import BadRow, Encoder
from trainer.errors import Problem, UserError


def _error(reason: str, where: str = "") -> UserError:
    return UserError(Problem(where, reason))


def image(value: Any, shape: tuple[int, ...], dtype: torch.dtype, spec: DecodeSpec) -> Tensor:
    """Convert one image to [C, H, W]: uint8, or floats from 0 to 255 if floats are given.

    Args:
        value: the path of a file, a Pillow image, or an array or tensor [C, H, W] or [H, W] of uint8, or of floats from
            0 to 1. If `dtype` is a float type, only such arrays are taken, unchanged.
        shape: of the raw samples that the model was trained on; images of another size are resized to it.
        dtype: of these samples.
        spec: the resizing of their files.

    Raises:
        BadImage: a file or a Pillow image that cannot be used.
        UserError: an array of another shape, type or range.
    """
    if isinstance(value, (str, Path, Image.Image)):
        if dtype != torch.uint8:
            reason = "the model was trained on numbers of a data set of your own, not on images of 8 bits"
            raise UserError(Problem("", reason, advice=f"Pass arrays as that data set gives them, {list(shape)}."))
        pixels = from_image(value, spec) if isinstance(value, Image.Image) else decode(value, spec)
        return _resized(pixels, shape)
    tensor = torch.as_tensor(value)
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3:
        raise _error(f"an image of shape {list(tensor.shape)}; expected [channels, height, width]")
    if tensor.dtype != torch.uint8:
        return _float_image(tensor, shape, dtype)
    if tuple(tensor.shape) == shape and dtype == torch.uint8:
        return tensor
    if dtype != torch.uint8:
        raise _error(f"an image of 8 bits; the model was trained on floats {list(shape)} of your own data set")
    if tensor.shape[0] not in (1, 3):
        raise _error(f"an image of shape {list(tensor.shape)}; expected 1 or 3 channels, which come first")
    array = tensor.cpu().permute(1, 2, 0).numpy()
    opened = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    return _resized(from_image(opened, spec), shape)


def _float_image(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if tuple(tensor.shape) != shape:
        raise _error(f"an image of floats of shape {list(tensor.shape)}; the model takes {list(shape)}")
    if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
        raise _error(f"an image of {tensor.dtype} values; expected uint8, or finite floats")
    if dtype != torch.uint8:
        return tensor.to(dtype)
    if tensor.numel() and (tensor.min() < 0 or tensor.max() > 1):
        low, high = tensor.min().item(), tensor.max().item()
        raise _error(f"an image of floats from {low:g} to {high:g}; expected 0 to 1, or uint8 from 0 to 255")
    return tensor * 255


def _resized(pixels: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Return decoded pixels as uint8 of this shape [C, H, W]."""
    channels, height, width = shape
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    if channels == 1:
        return torch.from_numpy(np.array(picture.convert("L")))[None]
    if channels != 3:
        raise BadImage(f"the model takes {channels} channels, which image files do not have")
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


def images(value: Any, shape: tuple[int, ...], dtype: torch.dtype, spec: DecodeSpec) -> Tensor:
    """Convert one image or several to [B, C, H, W]; see `image`. An array [B, C, H, W] is several.

    Raises:
        UserError: an image cannot be used, or there is none.
    """
    if isinstance(value, (np.ndarray, Tensor)):
        values = _as_list(value, shape)
    elif isinstance(value, (list, tuple)):
        values = list(value)
    else:
        values = [value]
    if not values:
        raise _error("there are no images to predict")
    converted = []
    for number, one in enumerate(values):
        where = str(one) if isinstance(one, (str, Path)) else f"image {number}"
        try:
            converted.append(image(one, shape, dtype, spec))
        except UserError as error:
            raise UserError(*(problem.within(where) for problem in error.problems)) from error
        except BadImage as error:
            raise _error(str(error), where) from error
        except (TypeError, ValueError, RuntimeError) as error:
            raise _error(f"{type(one).__name__} is not an image: {error}", where) from error
    if len({one.dtype for one in converted}) > 1:  # uint8 beside floats, which go from 0 to 255 by now
        converted = [one.float() for one in converted]
    return torch.stack(converted)


def _as_list(value: np.ndarray | Tensor, shape: tuple[int, ...]) -> list[Any]:
    """Return the images of an array; as in training they may be [B, H, W, C], or [B, H, W] if they are grey."""
    channels, *size = shape
    sizes = list(value.shape)
    if value.ndim == 4 and sizes[1:] == [*size, channels] and sizes[1:] != list(shape):
        return list(torch.as_tensor(value).permute(0, 3, 1, 2))
    if value.ndim == 3 and channels == 1 and sizes[1:] == size and sizes[0] != 1:
        return [each[None] for each in torch.as_tensor(value)]
    return list(value) if value.ndim == 4 else [value]


def rows(value: Any, encoder: Encoder) -> Tensor:
    """Convert one row or several to float64 [B, K].

    Args:
        value: a row as {column: value} or as values in the order of the model's columns; a list of rows; or an array or
            tensor [B, K] or [K] of numbers, where a category is its position in the column's `categories`.
        encoder: of the model's columns.

    Raises:
        UserError: a column is missing, or a value cannot be used; with the number of the row, counted from 0.
    """
    if hasattr(value, "iloc") and hasattr(value, "columns"):  # a DataFrame
        value = [dict(zip(map(str, value.columns), row, strict=True)) for row in value.itertuples(index=False)]
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "iufb"):
        return _encoded_rows(torch.as_tensor(value).double(), encoder)
    if not isinstance(value, Iterable):
        raise _error(f"{type(value).__name__} is not a row; expected a mapping, a list of values, or a list of these")
    values = list(value) if not isinstance(value, Mapping) else [value]
    if values and (isinstance(values[0], str) or not isinstance(values[0], (Mapping, Sequence, np.ndarray, Tensor))):
        values = [values]  # the values of one row
    if not values:
        raise _error("there are no rows to predict")
    return torch.tensor([_row(row, f"row {number}", encoder) for number, row in enumerate(values)], dtype=torch.float64)


def _row(row: Any, where: str, encoder: Encoder) -> list[float]:
    if not isinstance(row, (Mapping, Sequence, np.ndarray, Tensor)):
        raise _error(f"{type(row).__name__} is not a row", where)
    if not isinstance(row, Mapping):
        names = [column.name for column in encoder.columns]
        if len(row) != len(names):
            raise _error(f"{len(row)} values; the model has {len(names)} columns: {', '.join(names)}", where)
        row = dict(zip(names, row, strict=True))
    try:
        return encoder.row({str(name): cell for name, cell in row.items()})
    except BadRow as error:
        raise _error(str(error), where) from error


def _encoded_rows(table: Tensor, encoder: Encoder) -> Tensor:
    table = table[None] if table.ndim == 1 else table
    if table.ndim != 2 or table.shape[1] != len(encoder.columns) or not len(table):
        names = ", ".join(column.name for column in encoder.columns)
        raise _error(f"rows of shape {list(table.shape)}; the model has {len(encoder.columns)} columns: {names}")
    bad = table.isinf() if encoder.fill else ~table.isfinite()
    if bad.any():
        row, column = bad.nonzero()[0].tolist()
        where = f"row {row}: column {encoder.columns[column].name}"
        raise _error(f"{table[row, column].item():g} is not a finite number", where)
    return table.cpu()


def vectors(value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Convert an array or tensor [B, *shape] or [*shape] of vectors or sequences to [B, *shape] of `dtype`.

    Raises:
        UserError: another shape, or values that are not finite numbers.
    """
    try:
        tensor = torch.as_tensor(value).to(dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _error(f"{type(value).__name__} is not an array of numbers: {error}") from error
    tensor = tensor[None] if tensor.ndim == len(shape) else tensor
    if tuple(tensor.shape[1:]) != shape or not len(tensor):
        raise _error(f"samples of shape {list(tensor.shape)}; expected [samples, {', '.join(map(str, shape))}]")
    if not bool(tensor.isfinite().all()):
        raise _error("samples that are not finite")
    return tensor
