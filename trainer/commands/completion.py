"""Shell completion of `train`: Hydra's own, over this program's groups and keys. Does not import torch."""

import sys

import hydra
from hydra.core.global_hydra import GlobalHydra

from trainer.config.catalog import shipped_conf
from trainer.config.compose import ROOT_NAME, Composer


def complete(request: str, config_dir: str | None = None) -> int:
    """Print the completion script (`install=bash`) or the completions of the current line (`query=bash`).

    Returns the exit code.
    """
    Composer(config_dir)  # registers the configuration and the user's folders with Hydra
    GlobalHydra.instance().clear()
    sys.argv = [sys.argv[0], "--shell-completion", request]
    hydra.main(version_base="1.3", config_path=str(shipped_conf()), config_name=ROOT_NAME)(lambda config: None)()
    return 0
