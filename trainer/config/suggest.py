"""Advice for a key that does not exist: the key that was probably meant. Imports neither torch nor Hydra."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.config.catalog import OTHER_NAMES
from trainer.errors import nearest

# What other tools call a key of this program.
OTHER_KEYS = {
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs"), "epochs"),
    **dict.fromkeys(("batch", "batchsize", "bs", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("lr", "learning_rate", "lr0"), "optim.lr"),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    **dict.fromkeys(("gradient_clip_val", "max_grad_norm", "grad_clip"), "clip_norm"),
    **dict.fromkeys(("accumulate_grad_batches", "gradient_accumulation_steps"), "accumulate"),
    **dict.fromkeys(("outputs", "output_dir", "log_dir", "save_dir"), "output"),
    "num_workers": "data.workers",
    "dropout": "model.dropout",
    "momentum": "optim.momentum",
    "weight_decay": "optim.weight_decay",
    "label_smoothing": "loss.label_smoothing",
}
OTHER_WAYS = {
    "early_stopping": "patience=10 stops after ten validations without a new best, patience=null never.",
    **dict.fromkeys(("amp", "fp16", "mixed_precision"), "Mixed precision is precision=bfloat16 or float16."),
    **dict.fromkeys(("gpu", "gpus"), "A run uses one device: device=cuda, or device=cuda:1 for the second GPU."),
    "pretrained": "Published weights are model.weights=default, random ones model.weights=none.",
}
NESTED_CUTOFF = 0.75  # similarity to the last name of a key in a group; many short names are somewhat similar


def nearest_key(path: str, keys: Iterable[str], groups: Iterable[str], value: str) -> str:
    """Return advice that names the key that was meant, with the value that was typed.

    Args:
        path: the dotted key that does not exist.
        keys: all keys that exist, dotted.
        groups: the groups of options.
        value: the value as typed.
    """
    if path in OTHER_WAYS:
        return OTHER_WAYS[path]
    if renamed := OTHER_KEYS.get(path) or OTHER_NAMES.get(path):
        return f"Did you mean {renamed}={value}?"
    near = _nearest(path, sorted(keys, key=lambda key: key.count(".")), groups)
    return f"Did you mean {near}={value}?" if near else "All keys: train --help"


def _nearest(path: str, keys: Sequence[str], groups: Iterable[str]) -> str:
    """Return the most similar key, or an empty string; a key in a group that exists is sought there alone."""
    parent, _, name = path.rpartition(".")
    siblings = [key.removeprefix(f"{parent}.") for key in keys if parent and key.startswith(f"{parent}.")]
    if siblings:
        near = nearest(name, siblings)
        return near and f"{parent}.{near}"
    by_name = {key.rpartition(".")[2]: key for key in reversed(keys)}
    if parent:
        return by_name.get(name) or nearest(path, keys)
    flat = nearest(name, [*groups, *(key for key in keys if "." not in key)])
    return by_name.get(name) or flat or by_name.get(nearest(name, by_name, NESTED_CUTOFF), "")
