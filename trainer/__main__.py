"""Entry point of `python -m trainer`: `train` for key=value words, `trainer` for a verb."""

import sys

# `python -m` puts the current folder first, where a user's file could shadow an installed module.
sys.path.append(sys.path.pop(0))

from trainer.cli import train, trainer
from trainer.commands.verbs import VERBS

if __name__ == "__main__":
    trainer() if sys.argv[1:2] and sys.argv[1] in ("train", *VERBS) else train()
