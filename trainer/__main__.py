"""`python -m trainer key=value` is `train`, `python -m trainer VERB` is `trainer`, without their being installed."""

import sys

# `python -m` puts the current folder first, where a file of the user's could stand for an installed module.
sys.path.append(sys.path.pop(0))

from trainer.cli import train, trainer
from trainer.commands.verbs import VERBS

if __name__ == "__main__":
    trainer() if sys.argv[1:2] and sys.argv[1] in ("train", *VERBS) else train()
