"""Run a command on a pseudo-terminal and draw its screen: `screenshot.py docs/run.svg -- train ...`."""

from __future__ import annotations

import os
import pty
import re
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 114


def main() -> None:
    target, separator, *command = sys.argv[1:]
    assert separator == "--", __doc__
    os.environ.update(COLUMNS=str(WIDTH), LINES="50", TERM="xterm-256color")
    pieces: list[bytes] = []

    def keep(handle: int) -> bytes:
        piece = os.read(handle, 65536)
        pieces.append(piece)
        return piece

    status = pty.spawn(command, keep)
    text = b"".join(pieces).decode()
    # A progress bar redraws its line: only the text after the last carriage return stays.
    lines = [re.split(r"\r|\x1b\[2K|\x1b\[1A|\x1b\[\?25[lh]", line.rstrip("\r"))[-1] for line in text.split("\n")]
    lines = [line for line in lines if "━" not in line]
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text.from_ansi(f"$ {shlex.join(command)}\n" + "\n".join(lines).rstrip()))
    Path(target).write_text(console.export_svg(title=Path(command[0]).name))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
