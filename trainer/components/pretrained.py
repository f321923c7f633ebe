"""Weights to start from: torchvision's published ones, timm's, or a file; and the preprocessing that goes with them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from trainer.components.targets import resolve
from trainer.config.schema import Config
from trainer.errors import Problem, UserError, suggestions
from trainer.models import vision
from trainer.training import checkpoint

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
OLD_NAMES = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
SHOWN = 12  # names in a note


@dataclass(frozen=True)
class Preprocessing:
    """What images were like when the weights were trained.

    Attributes:
        size: side of the square images, or height and width.
        resize: the shorter side before the centre was cut out; None where images were squashed or as they are.
        mean, std: per channel, from 0 to 255; None leaves them to the data.
        published: the weights are torchvision's or timm's own.
    """

    size: int | tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    published: bool = False


ANY = Preprocessing()


def preprocessing(config: Config) -> Preprocessing:
    """What the model wants of its images, as far as it cares.

    What the user says (`model.image_size`, `data.size`) comes before what the weights were trained with.

    Raises:
        UserError: no such weights.
    """
    wanted = _of_weights(config)
    target = resolve(config.model.target or "", "model")
    if fixed := getattr(target, "image_size", None):
        return replace(wanted, size=fixed[0], resize=None)
    said = config.model.arguments.get("image_size") or config.data.arguments.get("size")
    if isinstance(said, list) and len(said) == 2:
        height, width = said
        said = height if height == width else (height, width)
    if isinstance(said, (int, tuple)):
        return replace(wanted, size=said, resize=None)
    if wanted.size is None and target in vision.BUILDERS:
        natural = vision.natural_size if target is vision.torchvision_model else vision.timm_natural_size
        return replace(wanted, size=natural(str(config.model.arguments["name"])))
    return wanted


def _of_weights(config: Config) -> Preprocessing:
    path = _file(config)
    entry = published(config) or (_published_as(config, path.name) if path else None)
    if entry is not None:
        preset = entry.transforms()
        mean, std = (tuple(255 * value for value in values) for values in (preset.mean, preset.std))
        return Preprocessing(preset.crop_size[0], preset.resize_size[0], mean, std, published=True)
    if path is None and config.model.weights == "default":
        return _of_timm(str(config.model.arguments["name"]))
    content = _read(path) if path else {}
    prepare = content.get("prepare", {})
    if "mean" not in prepare or len(prepare["shape"]) != 3:  # a table, or no checkpoint of this program
        return Preprocessing()
    height, width = prepare["size"] or prepare["shape"][1:]
    return Preprocessing(
        height if height == width else (height, width),
        None,
        tuple(prepare["mean"]),
        tuple(prepare["std"]),
        published=bool((content.get("wanted") or {}).get("published")),  # what it was trained with, it still wants
    )


def _published_as(config: Config, name: str) -> Any:
    """torchvision's entry for the chosen model whose file has this name: it was fetched by other means."""
    if resolve(config.model.target or "", "model") is not vision.torchvision_model:
        return None
    import torchvision

    try:
        entries = torchvision.models.get_model_weights(config.model.arguments["name"])
    except ValueError:
        return None  # no such model, which is told where it is built
    return next((entry for entry in entries if entry.url.rpartition("/")[2] == name), None)


def _of_timm(name: str) -> Preprocessing:
    try:
        import timm

        vision.check_timm_name(name)
    except (ModuleNotFoundError, ValueError):
        return Preprocessing()  # told where the model is built
    known = timm.get_pretrained_cfg(name)
    if known is None:
        return Preprocessing()
    mean, std = (tuple(255 * value for value in values) for values in (known.mean, known.std))
    size = known.input_size[1]
    return Preprocessing(size, round(size / known.crop_pct), mean, std, published=True)


def published(config: Config) -> Any:
    """torchvision's entry for `model.weights`; None where the weights are none of torchvision's.

    Raises:
        UserError: `default` or a name, and there is none of that name.
    """
    weights = config.model.weights
    if weights in (None, "none") or _file(config):
        return None
    target = resolve(config.model.target or "", "model")
    if target is vision.timm_model and weights == "default":
        return None
    if target is not vision.torchvision_model:
        raise UserError(
            f"model.weights={weights}: no such file or run folder, and only torchvision's models have published ones. "
            "Expected none or a path."
        )
    import torchvision

    try:
        vision.check_name(str(config.model.arguments["name"]))
    except ValueError as error:
        raise UserError(f"model.name={config.model.arguments['name']}: {error}.") from error
    entries = torchvision.models.get_model_weights(config.model.arguments["name"])
    if weights == "default":
        return entries.DEFAULT
    known = [entry.name for entry in entries]
    if weights not in known:
        advice = suggestions(str(weights), [*known, "default", "none"])
        raise UserError(Problem("model.weights", "no such file", given=weights, advice=advice))
    return entries[weights]


def load(model: nn.Module, config: Config) -> list[str]:
    """Loads `model.weights` into `model`, which it mutates: every tensor that matches in name and shape.

    Returns sentences on what was loaded and all that was not.

    Raises:
        UserError: the weights cannot be had, cannot be read, or none of them match.
    """
    if config.model.weights in (None, "none"):
        return []
    entry, path = published(config), _file(config)
    if entry is not None:
        given, where = _weights_in(_read(_downloaded(entry)), Path(entry.url)), f"torchvision's {entry}"
    elif path is not None:
        given, where = _weights_in(_read(path), path), str(path)
    else:
        given, where = _timm_weights(config), "timm's"
    # torchvision's DenseNet files are older than the names of its layers.
    given = {OLD_NAMES.sub(r"\1\2", name): value for name, value in given.items()}
    own = model.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise UserError(f"model.weights={config.model.weights}: none of its {len(given)} tensors fits this model.")
    model.load_state_dict(fitting, strict=False)
    # Files from before torch 1.0 have no count of batches, and only a BatchNorm without momentum uses it.
    own = {name: value for name, value in own.items() if name in given or not name.endswith(".num_batches_tracked")}
    notes = [f"weights: {len(fitting)} of {len(own)} tensors from {where}"]
    other = [f"{n} {_sizes(given[n])} there, {_sizes(own[n])} here" for n in given if n in own and n not in fitting]
    return notes + [
        f"weights: {words}: {_some(names)}"
        for words, names in (
            ("other in shape, so new here", other),
            ("not in the file, so new here", [name for name in own if name not in given]),
            ("left over in the file", [name for name in given if name not in own]),
        )
        if names
    ]


def _sizes(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "1"


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def _file(config: Config) -> Path | None:
    """The checkpoint that `model.weights` names by a path: a file, or a run folder's best one."""
    if config.model.weights in (None, "none", "default"):
        return None
    path = Path(str(config.model.weights)).expanduser()
    if path.is_dir():
        best = path / "checkpoints" / "best.pt"
        if not best.is_file():
            raise UserError(f"model.weights={path}: a folder without checkpoints/best.pt, so no run of this program.")
        return best
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"model.weights={path}: there is no such file.")
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = checkpoint.read(path)
    except checkpoint.CheckpointError as damage:
        raise UserError(f"model.weights={path}: {damage}.") from damage
    if not isinstance(content, dict):
        raise UserError(f"model.weights={path}: expected a state dict, found {type(content).__name__}.")
    return content


def _weights_in(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dict in a file: the file itself, or under one of the usual names."""
    for name in ("run", "model", "state_dict", "model_state_dict"):
        if isinstance(content.get(name), dict):
            content = content[name]
    found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not found:
        raise UserError(f"model.weights={path}: there are no tensors in it.")
    if "n_averaged" in found and all(name.startswith("module.") for name in found if name != "n_averaged"):
        del found["n_averaged"]  # an AveragedModel's own count
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _downloaded(entry: Any) -> Path:
    """The file of published weights in torch's cache; fetched where it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if path.is_file():
        return path
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(entry.url, str(path), digest and digest[1], progress=sys.stderr.isatty())
    except (URLError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"model.weights={entry.name}: {path.name} is not in {path.parent} and could not be downloaded ({reason}). "
            "Put it there, or name a file with model.weights=PATH, or begin anew with model.weights=none."
        ) from error
    return path


def _timm_weights(config: Config) -> dict[str, Tensor]:

    name = config.model.arguments["name"]
    try:
        # timm fits position embeddings to another size itself.
        return vision.timm_model(name, image_size=config.model.arguments.get("image_size"), fetch=True).state_dict()
    except Exception as error:  # the hub's own errors are no public types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"model.weights=default: timm could not get the weights of {name} ({reason}). Name a file with "
            "model.weights=PATH, or begin anew with model.weights=none."
        ) from error
