"""Classifiers of torchvision and timm, with a new head."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from trainer.models.heads import ENDINGS, last_layer, mlp_head, replace_head

# The argument for the image size in families that are built for one size; other models take any size.
SIDES = {"vit": "image_size", "maxvit": "input_size"}
NATURAL_SIZE = {"vit": 224, "maxvit": 224, "inception": 299}
# Arguments that make timm read files, in some versions even pickles.
FILES_OF_TIMM = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
# Auxiliary heads, which are used in training only, and the weight of their loss in the papers.
AUXILIARY = {"inception_v3": (("AuxLogits.fc",), 0.4), "googlenet": (("aux1.fc2", "aux2.fc2"), 0.3)}


def torchvision_model(
    name: str,
    num_outputs: int,
    *,
    head: str = "linear",
    hidden: int | Sequence[int] = 256,
    dropout: float | Sequence[float] = 0.0,
    image_size: int | Sequence[int] | None = None,
    output: str = "logits",
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """Return a classifier of torchvision with random weights: `[B, 3, H, W] -> [B, num_outputs]`.

    Args:
        name: a name in `torchvision.models.list_models()`.
        num_outputs: outputs per image.
        head: `linear` replaces the last layer, `mlp` replaces the whole classifier by Linear-ReLU-...-Linear.
        hidden: hidden sizes of the mlp; see `mlp_head`.
        dropout: dropout of the mlp; see `mlp_head`.
        image_size: image size of models that are built for one size (vision transformers).
        output: log_probabilities or probabilities append a LogSoftmax or a Softmax.
        pretrained: whether published weights will be loaded, so that the model transforms its inputs for them.
        **arguments: passed on to torchvision.

    Raises:
        ValueError: there is no such model or head.
    """
    check_name(name)
    family = name.partition("_")[0]
    if family in SIDES and image_size is not None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if height != width:
            raise ValueError(f"{name} takes square images, not {height}x{width}")
        arguments[SIDES[family]] = (height, width) if family == "maxvit" else height
    if name in AUXILIARY:
        arguments = {"init_weights": not pretrained, "transform_input": pretrained, **arguments}
    model = torchvision.models.get_model(name, num_classes=num_outputs, **arguments)
    if name in AUXILIARY and model.aux_logits:
        paths, model.auxiliary_weight = AUXILIARY[name]
        for path in paths:
            replace_head(model, path, _ended(model.get_submodule(path), num_outputs, output))
    return _with_head(model, num_outputs, head, hidden, dropout, output)


def timm_model(
    name: str,
    num_outputs: int,
    *,
    head: str = "linear",
    hidden: int | Sequence[int] = 256,
    dropout: float | Sequence[float] = 0.0,
    image_size: int | Sequence[int] | None = None,
    output: str = "logits",
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """Return a classifier of timm (the extra `timm`) with random weights: `[B, 3, H, W] -> [B, num_outputs]`.

    Args:
        name: a name in `timm.list_models()`; may end in the tag of its weights, as in `resnet10t.c3_in1k`.
        num_outputs: outputs per image.
        head: `linear` or `mlp`, as for `torchvision_model`.
        hidden: hidden sizes of the mlp; see `mlp_head`.
        dropout: dropout of the mlp; see `mlp_head`.
        image_size: image size of models that are built for one size; others take any.
        output: log_probabilities or probabilities append a LogSoftmax or a Softmax.
        pretrained: accepted for symmetry with `torchvision_model`.
        **arguments: passed on to timm.

    Raises:
        ValueError: timm is not installed, or has no such model.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError("timm is not installed: pip install 'trainer-cli[timm]'") from error
    check_timm_name(name)
    if refused := sorted(arguments.keys() & FILES_OF_TIMM):
        raise ValueError(f"{', '.join(refused)}: weights from a file are loaded by model.weights=FILE")
    arguments |= _img_size(name, image_size)
    model = timm.create_model(name, num_classes=num_outputs, **arguments)
    return _with_head(model, num_outputs, head, hidden, dropout, output)


def timm_pretrained(name: str, path: Path, image_size: int | Sequence[int] | None) -> nn.Module:
    """Return a model of timm with the published weights of a local file, fitted to the image size by timm."""
    import timm

    arguments: Any = {"pretrained_cfg_overlay": {"file": str(path)}, **_img_size(name, image_size)}
    return timm.create_model(name, pretrained=True, **arguments)


def _img_size(name: str, image_size: int | Sequence[int] | None) -> dict[str, int | tuple[int, ...]]:
    if image_size is None or timm_natural_size(name) is None:
        return {}
    return {"img_size": image_size if isinstance(image_size, int) else tuple(image_size)}


def check_timm_name(name: str) -> None:
    """Check that timm has a classifier.

    Raises:
        ValueError: timm has no such classifier, or none with this tag.
    """
    import timm

    _check(name, timm.list_models(pretrained=True) if "." in name else timm.list_models(), "timm")


def timm_natural_size(name: str) -> int | None:
    """Return the image size that a model of timm is built for; None if it takes any."""
    try:
        import timm

        published = timm.get_pretrained_cfg(name)
    except (ModuleNotFoundError, RuntimeError):
        return None  # timm is not installed, or has no such tag; building the model reports it
    return published.input_size[1] if published is not None and published.fixed_input_size else None


def check_name(name: str) -> None:
    """Check that torchvision has a classifier.

    Raises:
        ValueError: torchvision has no such classifier.
    """
    _check(name, torchvision.models.list_models(module=torchvision.models), "torchvision")


def natural_size(name: str) -> int | None:
    """Return the image size that a model of torchvision is built for; None if it takes any."""
    return NATURAL_SIZE.get(name.partition("_")[0])


def _check(name: str, available: Iterable[str], library: str) -> None:
    names = list(available)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.4)
        raise ValueError(f"{library} has no classifier {name}; the nearest are {', '.join(near) or 'none'}")


def _with_head(
    model: nn.Module,
    num_outputs: int,
    head: str,
    hidden: int | Sequence[int],
    dropout: float | Sequence[float],
    output: str,
) -> nn.Module:
    if head not in ("linear", "mlp"):
        raise ValueError(f"head={head}: expected linear or mlp")
    path = last_layer(model)
    new_head: nn.Module = model.get_submodule(path)
    if head == "mlp":
        path = path.partition(".")[0]  # AlexNet's and VGG's whole classifier, not only its last layer
        first = next((m for m in model.get_submodule(path).modules() if isinstance(m, nn.Linear)), None)
        if first is None or not isinstance(model.get_submodule(path), (nn.Linear, nn.Sequential)):
            raise ValueError(f"head=mlp: this model's classifier ({path}) is not made of linear layers")
        new_head = mlp_head(first.in_features, num_outputs, hidden, dropout)
        new_head = _after_pooling(model.get_submodule(path), first, new_head)
    replace_head(model, path, _ended(new_head, num_outputs, output))
    model.head_path = path  # type: ignore[assignment]
    return model


def _ended(head: nn.Module, num_outputs: int, output: str) -> nn.Module:
    """Return a head that ends in probabilities or log-probabilities if `output` says so."""
    if output not in ENDINGS:
        return head
    return nn.Sequential(head, nn.Sigmoid() if num_outputs == 1 else ENDINGS[output](dim=1))


def _after_pooling(classifier: nn.Module, first: nn.Linear, head: nn.Sequential) -> nn.Sequential:
    """Return a head after the layers that precede a classifier's first linear layer (ConvNeXt's norm, Flatten)."""
    if not isinstance(classifier, nn.Sequential):
        return head
    before = []
    for layer in classifier:
        if layer is first:
            break
        if not isinstance(layer, nn.Dropout):
            before.append(layer)
    return nn.Sequential(*before, *head)


BUILDERS = (torchvision_model, timm_model)
CHANNELS = 3  # of the images that their models take
