"""`python -m trainer [train] key=value ...` is the console scripts without their being installed."""

import sys

# `python -m` puts the current folder first, where a file of the user's could stand for an installed module.
sys.path.append(sys.path.pop(0))

from trainer.cli import trainer

if __name__ == "__main__":
    trainer()
