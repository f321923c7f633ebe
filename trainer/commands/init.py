"""`trainer init [GROUP]...`: copy the YAML files to ./conf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from trainer.config.catalog import group_of, groups, shipped_conf
from trainer.errors import Problem, RunFailed, UserError, first_few

NOTE = "README.md"
TEXT = """\
# Your own configuration

These are copies of the program's YAML files for you to change. Values are taken from, highest priority first:

1. the command line: `train optim.lr=3e-3`
2. the keys of an experiment: `train experiment=NAME` reads `experiment/NAME.yaml`
3. the chosen option of a group: `model=NAME` reads `model/NAME.yaml`,
   from `--config-dir DIR`, else from here (`./conf`, where you call `train`), else from the shipped files
4. the program's defaults, which `train --help` lists

A file here replaces the shipped one of the same name as a whole; a file with a new name is a new option. Delete the
files that you do not change: the shipped ones then apply, also those of a newer version. Only the folders of groups
are read; a `config.yaml` here is not.

`trainer list` shows every option and the paths of your own files. `train --cfg job model=NAME` prints the resulting
configuration and does not train. A `_target_: mymodule.Net` is imported from the folder in which you call `train`.
"""


@click.command(
    epilog="\b\nExamples:\n  trainer init                  all groups"
    "\n  trainer init model optim      only these; the others stay the program's"
)
@click.argument("groups", metavar="[GROUP]...", nargs=-1)
def command(groups: tuple[str, ...]) -> int:
    """Copy the program's YAML files to ./conf, where you can change them. Nothing is overwritten.

    Precedence, highest first: command line, --config-dir, ./conf, shipped files. See conf/README.md.
    """
    target = Path("conf")
    copied = copy_conf(target, groups)
    print(f"{len(copied)} files copied to {target}/. They win over the shipped ones of the same name: {target / NOTE}")
    print("Delete those that you do not change. Print the resulting configuration: train --cfg job")
    return 0


def copy_conf(target: Path, names: Sequence[str] = ()) -> list[Path]:
    """Copy the YAML files of these groups, or of all, and a README; return the copies.

    `names` are groups, or their plurals such as models.

    Raises:
        UserError: a file exists already (nothing is copied then), or there is no such group.
        RunFailed: the folder cannot be written to.
    """
    files = groups([shipped_conf()])
    chosen = [group_of(name, files) for name in names] or list(files)
    sources = {target / group / path.name: path for group in chosen for _, path in files[group]}
    if (target.exists() or target.is_symlink()) and not target.is_dir():
        raise UserError(Problem(str(target), "it exists and is not a folder"))
    existing = [path for path in sources if path.exists() or path.is_symlink()]
    if existing:
        reason, advice = "it exists already; nothing is overwritten", "Move it away, or name other groups."
        raise UserError(Problem(first_few(map(str, existing), 1), reason, advice=advice))
    try:
        for path, source in sources.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as file:  # exclusive: a file created meanwhile is not overwritten
                file.write(source.read_bytes())
        note = target / NOTE
        if not note.exists():
            note.write_text(TEXT, encoding="utf-8")
    except OSError as error:
        raise RunFailed(f"{error.filename or target}: could not be written ({error.strerror}).") from error
    return list(sources)
