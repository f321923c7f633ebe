"""State dicts in the checkpoints of other programs: found under their usual names, and matched with a model's names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

DEPTH = 3  # of a state dict in a file: {"run": {"model": {...}}}
MOST_DICTS = 1000
MODULE_DEPTH = 30
MOST_PREFIXES = 8
PARTS = 4  # of a prefix: module.encoder_q.backbone.net.
AVERAGES = re.compile(r"ema|average")  # names of averaged weights, which are what such programs evaluate
OLD_NAMES = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")  # in torchvision's files of DenseNets


@dataclass(frozen=True)
class Match:
    """The tensors of a file under a model's names.

    Attributes:
        tensors: all tensors; those outside `removed` keep their names.
        fitting: names of those that the model has in this shape.
        place: keys under which the state dict lies in the file, such as `state_dict`; empty at its top.
        removed: prefix that the names lost.
        added: prefix that they gained.
    """

    tensors: dict[str, Tensor]
    fitting: list[str]
    place: str = ""
    removed: str = ""
    added: str = ""

    def describe(self) -> str:
        """Return where the tensors were found and how they were renamed, for a note; empty if as they are."""
        words = [f"under {self.place}"] if self.place else []
        words += [f"without the prefix {self.removed}"] if self.removed else []
        words += [f"with the prefix {self.added}"] if self.added else []
        return ", ".join(words)


def best_match(content: Mapping[str, Any], own: Mapping[str, Tensor]) -> Match | None:
    """Return the state dict and the prefixes with which most tensors fit a model; averaged weights win a tie.

    Args:
        content: content of a file.
        own: the model's state dict.

    Returns:
        The match, in which nothing may fit; None if there are no tensors in the file.
    """
    matches = [_match(place, tensors, own) for place, tensors in _state_dicts(content)]
    return max(matches, key=lambda match: len(match.fitting), default=None)


def _state_dicts(content: Mapping[str, Any]) -> list[tuple[str, dict[str, Tensor]]]:
    """Return place and tensors of each dictionary with tensors, those of averages first."""
    results = []
    queue: list[tuple[tuple[str, ...], Any]] = [((), content)]
    for place, node in queue:  # grows meanwhile
        if "_modules" in getattr(node, "__dict__", {}):
            node = dict(_of_module(node))
        tensors = {
            OLD_NAMES.sub(r"\1\2", str(name)): value for name, value in node.items() if isinstance(value, Tensor)
        }
        if tensors:
            results.append((".".join(place), {name: value.detach() for name, value in tensors.items()}))
        if len(place) < DEPTH and len(queue) < MOST_DICTS:
            queue += [((*place, str(name)), value) for name, value in node.items() if isinstance(value, dict)]
    return sorted(results, key=lambda result: not AVERAGES.search(result[0]))


def _of_module(module: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the state dict of a whole model that was saved with its class: its attributes are on inert dictionaries."""
    attributes = getattr(module, "__dict__", {})
    transient = attributes.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers", "_modules"):
        values = attributes.get(kind)
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, Tensor) and not (isinstance(transient, set) and name in transient):
                yield f"{prefix}{name}", value
            elif isinstance(value, dict) and depth < MODULE_DEPTH:
                yield from _of_module(value, f"{prefix}{name}.", depth + 1)


def _match(place: str, tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> Match:
    """Return the match with the prefixes that make most names and shapes fit; the shortest of equally good ones."""
    if "n_averaged" in tensors and all(name.startswith("module.") for name in tensors if name != "n_averaged"):
        tensors = {name: value for name, value in tensors.items() if name != "n_averaged"}  # an AveragedModel's own
    best = Match(tensors, _fitting(tensors, own), place)
    for removed in ["", *_prefixes(tensors)]:
        kept = {name.removeprefix(removed): value for name, value in tensors.items() if name.startswith(removed)}
        rest = {name: value for name, value in tensors.items() if not name.startswith(removed)}
        for added in ["", *_prefixes(own)]:
            fitting = _fitting({added + name: value for name, value in kept.items()}, own)
            # Names such as `weight` fit by chance.
            if len(fitting) > len(best.fitting) and 2 * len(fitting) >= min(len(kept), len(own)):
                renamed = {added + name: value for name, value in kept.items()}
                best = Match({**rest, **renamed}, fitting, place, removed, added)
    return best


def _fitting(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    return [name for name, value in tensors.items() if name in own and own[name].shape == value.shape]


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the most common prefixes of dotted names, the shortest first."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1]
        counts.update(".".join(parts[:length]) + "." for length in range(1, min(len(parts), PARTS) + 1))
    return sorted((prefix for prefix, _ in counts.most_common(MOST_PREFIXES)), key=len)
