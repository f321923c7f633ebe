"""`trainer init`: a conf/ of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from trainer.config.catalog import group_of, groups, shipped_conf
from trainer.errors import RunFailed, UserError

NOTE = "README.md"
TEXT = """\
# Your own configuration

These are copies of the program's YAML files, to be changed. What wins, first to last:

1. what is typed: `train optim.lr=3e-3`
2. an experiment's own keys: `train experiment=NAME`, from `experiment/NAME.yaml`
3. the chosen option of a group: `model=NAME` takes `model/NAME.yaml`,
   looked for in `--config-dir DIR`, then here (`./conf`, where you call `train`), then among the shipped files
4. the program's defaults, which `train --help` lists

A file here counts in place of the shipped one of the same name, as a whole; a file with a new name is a new option.
Delete the files that you do not change: the shipped ones then apply, also those of a newer version. Only the groups
count: there is no `config.yaml` here, and one would not be read.

`trainer list` shows every option, and names the files that are yours. `train --cfg job model=NAME` shows what comes
of it all, and trains nothing. A `_target_: mymodule.Net` is looked for in the folder you call `train` from.
"""


@click.command(
    epilog="\b\nExamples:\n  trainer init                  all groups"
    "\n  trainer init model optim      only these, so that the others follow the program's versions"
)
@click.argument("groups", metavar="[GROUP]...", nargs=-1)
def command(groups: tuple[str, ...]) -> int:
    """Copy the program's YAML files to ./conf, to be changed there; nothing is ever overwritten.

    What wins: what is typed, then --config-dir, then ./conf, then the shipped files; conf/README.md says more.
    """
    target = Path("conf")
    copied = copy_conf(target, groups)
    print(f"{len(copied)} files copied to {target}/. They win over the shipped ones of the same name: {target / NOTE}")
    print("Delete those that you do not change. Show what comes of them: train --cfg job")
    return 0


def copy_conf(target: Path, names: Sequence[str] = ()) -> list[Path]:
    """Copies the YAML files of these groups, or of all, below `target`, and a note on what wins; returns the files.

    Raises:
        UserError: a file is there already (nothing is copied), or there is no such group.
        RunFailed: the folder cannot be written.
    """
    known = groups([shipped_conf()])
    chosen = [group_of(name, known) for name in names] or list(known)
    sources = {target / group / path.name: path for group in chosen for _, path in known[group]}
    if (target.exists() or target.is_symlink()) and not target.is_dir():
        raise UserError(f"{target}: it is there, and no folder.")
    there = [path for path in sources if path.exists() or path.is_symlink()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more}: there already; nothing is overwritten. Move it away, or name other groups.")
    try:
        for path, source in sources.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as file:  # never over one that came in between
                file.write(source.read_bytes())
        note = target / NOTE
        if not note.exists():
            note.write_text(TEXT, encoding="utf-8")
    except OSError as error:
        raise RunFailed(f"{error.filename or target}: could not be written ({error.strerror}).") from error
    return list(sources)
