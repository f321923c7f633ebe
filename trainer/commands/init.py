"""`trainer init`: a conf/ of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="\b\nExamples:\n  trainer init                  all groups"
    "\n  trainer init model optim      only these, so that the others follow the program's versions"
)
@click.argument("groups", metavar="[GROUP]...", nargs=-1)
def command(groups: tuple[str, ...]) -> int:
    """Copy the program's YAML files to ./conf, to be changed there; nothing is ever overwritten.

    What wins: what is typed, then --config-dir, then ./conf, then the shipped files; conf/README.md says more.
    """
    from trainer.own_conf import NOTE, copy_conf

    target = Path("conf")
    copied = copy_conf(target, groups)
    print(f"{len(copied)} files copied to {target}/. They win over the shipped ones of the same name: {target / NOTE}")
    print("Delete those that you do not change. Show what comes of them: train --cfg job")
    return 0
