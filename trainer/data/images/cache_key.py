"""The key of a cache file: the files and settings that its images are decoded from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import PIL

from trainer.data.images.decode import DIGEST_BYTES, DecodeSpec
from trainer.errors import Problem, UserError

FORMAT = "trainer images 1"  # of the cache file


@dataclass(frozen=True)
class CacheKey:
    """Everything that decoded images depend on.

    Attributes:
        root: the folder of the images.
        files: (path relative to the root, size, modification time, change time) of each file, in the order of the rows.
        selection: the classes of `data.classes`, or the table: every selection has a cache file of its own.
    """

    root: Path
    files: list[tuple[str, int, int, int]]
    spec: DecodeSpec
    selection: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, root: Path, paths: Iterable[str], spec: DecodeSpec, selection: tuple[str, ...] | None = None
    ) -> CacheKey:
        """Return the key for these files, given relative to `root`, in their present state.

        Raises:
            UserError: a file is gone.
        """
        files = []
        for path in paths:
            try:
                files.append((path, *identity(root / path)))
            except OSError as error:
                shown = os.fsencode(root / path).decode(errors="replace")
                raise UserError(Problem(shown, f"cannot be read ({error.strerror})")) from error
        return cls(root, files, spec, selection)

    @cached_property
    def paths(self) -> list[str]:
        """Full paths of the files."""
        return [os.path.join(self.root, file[0]) for file in self.files]

    @cached_property
    def origin(self) -> str:
        """Digest of folder and settings, which stays the same when files change."""
        return _digest(str(self.root), self.spec, self.selection, size=8)

    @cached_property
    def digest(self) -> str:
        """Digest of the whole key."""
        return _digest(FORMAT, PIL.__version__, self.origin, self.files, size=DIGEST_BYTES)


def identity(path: str | Path) -> tuple[int, int, int]:
    """Return size, modification time and change time of a file: if they are the same, so is its content.

    Raises:
        OSError: the file is gone.
    """
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _digest(*values: Any, size: int) -> str:
    return blake2b(repr(values).encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()
