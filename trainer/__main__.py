"""`python -m trainer [train] key=value ...` is the console scripts without their being installed."""

from trainer.cli import trainer

if __name__ == "__main__":
    trainer()
