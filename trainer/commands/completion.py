"""Shell completion is Hydra's own, over this program's groups and keys. Imports no torch."""

import sys

import hydra
from hydra.core.global_hydra import GlobalHydra

from trainer.config.catalog import shipped_conf
from trainer.config.compose import ROOT_NAME, Composer


def complete(request: str, config_dir: str | None = None) -> int:
    """`install=bash` prints the script for a shell, `query=bash` the completions of its current line."""
    Composer(config_dir)  # registers the configuration and the user's folders
    GlobalHydra.instance().clear()
    sys.argv = [sys.argv[0], "--shell-completion", request]
    hydra.main(version_base="1.3", config_path=str(shipped_conf()), config_name=ROOT_NAME)(lambda config: None)()
    return 0
