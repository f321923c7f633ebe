"""Published weights: a file in the cache of torch or of the Hugging Face hub, downloaded if it is not there."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch

from trainer.components.weights import DEFAULT, HUB_FILES, weights_error
from trainer.files import resolve

SECONDS = 5  # until a server that does not answer counts as out of reach
INSTEAD = "name a file with model.weights=PATH, or start from random weights with model.weights=none."


def download(entry: Any) -> Path:
    """Return the file of torchvision's published weights in torch's cache; download it if it is not there.

    Raises:
        UserError: it cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if path.is_file():
        return resolve(path)
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        _reach(entry.url)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(entry.url, str(path), digest and digest[1], progress=sys.stderr.isatty())
    except (URLError, OSError, RuntimeError) as error:
        reason = f"{path.name} is not in {path.parent} and could not be downloaded ({_first_line(error)})"
        raise weights_error(entry.name, reason, f"Put it there, or {INSTEAD}") from error
    return resolve(path)


def timm_file(name: str) -> Path:
    """Return the file of timm's published weights in the hub's cache; download it if it is not there.

    Raises:
        UserError: timm publishes no weights of this model, or they cannot be downloaded.
    """
    import timm
    from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    entry, advice = timm.get_pretrained_cfg(name), INSTEAD[0].upper() + INSTEAD[1:]
    if entry is None or not entry.hf_hub_id:
        raise weights_error(DEFAULT, f"timm publishes no weights of {name}", advice)
    place, _, revision = entry.hf_hub_id.partition("@")
    files = [entry.hf_hub_filename] if entry.hf_hub_filename else list(HUB_FILES)
    for file in files:
        if isinstance(cached := try_to_load_from_cache(place, file, revision=revision or None), str):
            return Path(cached)
    try:
        if not constants.HF_HUB_OFFLINE:
            _reach(hf_hub_url(place, files[0]))
        for file in files:
            with contextlib.suppress(EntryNotFoundError):
                return Path(hf_hub_download(place, file, revision=revision or None))
        reason = f"{place} has no {' or '.join(files)}"
    except Exception as error:  # of urllib, httpx or the hub
        reason = f"{place} is not in {constants.HF_HUB_CACHE} and could not be downloaded ({_first_line(error)})"
        raise weights_error(DEFAULT, reason, advice) from error
    raise weights_error(DEFAULT, reason, advice)


def _reach(url: str) -> None:
    """Check that a server answers: libraries wait long for one that does not, and print each attempt.

    Raises:
        OSError: it does not.
    """
    with contextlib.suppress(HTTPError), urlopen(Request(url, method="HEAD"), timeout=SECONDS):
        pass


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
