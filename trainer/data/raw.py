"""Images and rows that somebody has at hand, to raw samples as a model's own data set gave them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainer.data.images.decode import BadImage, ResizeSpec, decode, from_image
from trainer.data.tables.rows import BadRow, Encoder
from trainer.errors import UserError

FLOAT_LIMIT = 1.0


def image(value: Any, shape: tuple[int, ...], dtype: torch.dtype, geometry: ResizeSpec) -> Tensor:
    """One image as [C, H, W]: uint8, or floats from 0 to 255 where floats were given.

    Args:
        value: a file's path, a Pillow image, or an array or tensor [C, H, W] or [H, W]: uint8, or floats from 0 to 1.
        shape, dtype: of the raw samples that the model was trained on. Where these are floats of somebody's own data
            set, only such arrays are taken, as they are.
        geometry: how image files were read for it. What has another size after that is resized to `shape`.

    Raises:
        BadImage: a file or an image that cannot be used.
        UserError: an array that is none of these.
    """
    if isinstance(value, (str, Path, Image.Image)):
        if dtype != torch.uint8:
            raise UserError(
                "the model was trained on numbers of a data set of your own, not on images of 8 bits: pass arrays as "
                f"that data set gives them, {list(shape)}."
            )
        pixels = from_image(value, geometry) if isinstance(value, Image.Image) else decode(value, geometry)
        return _shaped(Image.fromarray(pixels), shape)
    tensor = torch.as_tensor(value)
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3:
        raise UserError(f"an image of shape {list(tensor.shape)}; expected [channels, height, width].")
    if tensor.dtype != torch.uint8:
        return _floats(tensor, shape, dtype)
    if tuple(tensor.shape) == shape and dtype == torch.uint8:
        return tensor
    if dtype != torch.uint8:
        raise UserError(f"an image of 8 bits; the model was trained on floats {list(shape)} of your own data set.")
    if tensor.shape[0] not in (1, 3):
        raise UserError(f"an image of shape {list(tensor.shape)}; expected 1 or 3 channels, which come first.")
    array = tensor.cpu().permute(1, 2, 0).numpy()
    opened = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    return _shaped(Image.fromarray(from_image(opened, geometry)), shape)


def _floats(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if tuple(tensor.shape) != shape:
        raise UserError(f"an image of floats of shape {list(tensor.shape)}; the model takes {list(shape)}.")
    if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
        raise UserError(f"an image of {tensor.dtype} values; expected uint8, or finite floats.")
    if dtype != torch.uint8:
        return tensor.to(dtype)
    if tensor.numel() and (tensor.min() < 0 or tensor.max() > FLOAT_LIMIT):
        raise UserError(
            f"an image of floats from {tensor.min():g} to {tensor.max():g}; expected 0 to 1, or uint8 from 0 to 255."
        )
    return tensor * 255


def _shaped(picture: Image.Image, shape: tuple[int, ...]) -> Tensor:
    """In the channels and, resized if need be, the height and width of the model's raw samples."""
    channels, height, width = shape
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    if channels == 1:
        return torch.from_numpy(np.array(picture.convert("L")))[None]
    if channels != 3:
        raise BadImage(f"the model takes {channels} channels, which image files do not have")
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


def images(value: Any, shape: tuple[int, ...], dtype: torch.dtype, geometry: ResizeSpec) -> Tensor:
    """One image or several as [B, C, H, W]; see `image`. An array [B, C, H, W] is several.

    Raises:
        UserError: one of them cannot be used.
    """
    if isinstance(value, (np.ndarray, Tensor)):
        several = list(value) if value.ndim == 4 else [value]
    elif isinstance(value, (list, tuple)):
        several = list(value)
    else:
        several = [value]
    if not several:
        raise UserError("there are no images to predict.")
    found = []
    for number, one in enumerate(several):
        where = str(one) if isinstance(one, (str, Path)) else f"image {number}"
        try:
            found.append(image(one, shape, dtype, geometry))
        except (BadImage, UserError) as error:
            raise UserError(f"{where}: {error}{'' if str(error).endswith('.') else '.'}") from error
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{where}: {type(one).__name__} is no image: {error}.") from error
    if len({one.dtype for one in found}) > 1:  # bytes beside floats, which go from 0 to 255 by now
        found = [one.float() for one in found]
    return torch.stack(found)


def rows(value: Any, encoder: Encoder) -> Tensor:
    """One row or several as [B, K], float64.

    Args:
        value: a row as {column: value} or as values in the order of the model's columns; a list of rows; or an array
            or tensor [B, K], or [K], of numbers, in which a category is its place in the column's `categories`.

    Raises:
        UserError: a column is not there, or a value cannot be used; with the row's number, counted from 0.
    """
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "iufb"):
        return _numbers(torch.as_tensor(value).double(), encoder)
    if not isinstance(value, Iterable):
        raise UserError(f"{type(value).__name__} is no row; expected a mapping, a list of values, or a list of these.")
    several = list(value) if not isinstance(value, Mapping) else [value]
    if several and (isinstance(several[0], str) or not isinstance(several[0], (Mapping, Sequence, np.ndarray, Tensor))):
        several = [several]  # the values of one row
    if not several:
        raise UserError("there are no rows to predict.")
    names = [column.name for column in encoder.columns]
    found = []
    for number, row in enumerate(several):
        if not isinstance(row, (Mapping, Sequence, np.ndarray, Tensor)):
            raise UserError(f"row {number}: {type(row).__name__} is no row.")
        if not isinstance(row, Mapping):
            if len(row) != len(names):
                told = ", ".join(names)
                raise UserError(f"row {number}: {len(row)} values; the model has {len(names)} columns: {told}.")
            row = dict(zip(names, row, strict=True))
        try:
            found.append(encoder.row(row))
        except BadRow as error:
            raise UserError(f"row {number}: {error}.") from error
    return torch.tensor(found, dtype=torch.float64)


def _numbers(table: Tensor, encoder: Encoder) -> Tensor:
    table = table[None] if table.ndim == 1 else table
    if table.ndim != 2 or table.shape[1] != len(encoder.columns) or not len(table):
        names = ", ".join(column.name for column in encoder.columns)
        raise UserError(f"rows of shape {list(table.shape)}; the model has {len(encoder.columns)} columns: {names}.")
    wrong = table.isinf() if encoder.fill else ~table.isfinite()
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise UserError(
            f"row {row}: column {encoder.columns[column].name}: {table[row, column].item():g} is no finite number."
        )
    return table.cpu()


def vectors(value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Samples of somebody's own data set of numbers as [B, F]: an array or tensor [B, F], or [F].

    Raises:
        UserError: another shape, or no finite numbers.
    """
    try:
        tensor = torch.as_tensor(value).to(dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{type(value).__name__} is no array of numbers: {error}.") from error
    tensor = tensor[None] if tensor.ndim == 1 else tensor
    if tuple(tensor.shape[1:]) != shape or not len(tensor):
        raise UserError(f"samples of shape {list(tensor.shape)}; expected [samples, {shape[0]}].")
    if not bool(tensor.isfinite().all()):
        raise UserError("samples that are not finite.")
    return tensor
