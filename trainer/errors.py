"""The two ways in which a run can end badly without being our mistake; anything else shows its traceback."""

import traceback
from pathlib import Path


class UserError(ValueError):
    """Wrong configuration, data or usage: exit code 2, no traceback.

    Args:
        problems: one sentence each: where (key or path), what was given, what would be accepted.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


class RunFailed(RuntimeError):
    """The run itself could not go on (a full disk, damaged checkpoints): exit code 1, one sentence, no traceback."""


def raised_at(error: BaseException) -> str:
    """What was raised, and the file and line that raised it: `KeyError: 'x' in net.py, line 7`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
