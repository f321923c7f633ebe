"""`train --help`: examples, flags, the options of every group, and every key. Imports neither torch nor Hydra."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import Field

from trainer.config import schema
from trainer.config.catalog import config_folders, first_line, groups
from trainer.errors import printable, show

EXAMPLES = """\
train                                        LeNet-5 with AdamW on the bundled digits, offline
train model=lenet5 optim=adamw data=mnist    choose model, optimizer and data set
train optim.lr=3e-3 epochs=50 patience=5     change keys
train data=image_folder data.root=photos data.size=64 model=net
train resume=outputs/2026-11-20/12-00-00-mnist-lenet5    continue a stopped run
train resume=latest                          continue the newest unfinished one
train -m optim.lr=1e-4,1e-3 seed=0,1,2       a sweep: every combination
train debug=fast                             smoke test: a few batches of every stage
train --cfg job model=cnn                    print the configuration, do not train"""

FLAGS = """\
-m, --multirun         sweep over several values of a key
--cfg job              print the configuration and exit
--config-dir DIR       folder of your own YAML, beside ./conf; your files win over shipped ones of the same name
-sc install=bash       print a completion script (also zsh, fish): eval "$(train -sc install=bash)"
--version, -h, --help"""


def help_text(config_dir: str | None = None) -> str:
    """Return the help text, wrapped to the terminal's width."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    sections = ["Usage: train [key=value ...]", _section("Examples", EXAMPLES), _section("Flags", FLAGS)]
    for group, files in groups(config_folders(config_dir)).items():
        sections.append(_section(f"{group}=", "\n".join(_entry(name, first_line(path), width) for name, path in files)))
    for title, nested in (("Keys of the loop", False), ("Keys of the groups", True)):
        keys = [(key, field) for key, field in schema.documented_keys() if ("." in key) == nested]
        lines = [_entry(f"{key}={_default(field)}", field.metadata["meaning"], width) for key, field in keys]
        sections.append(_section(title, "\n".join(lines)))
    sections.append(
        "Every other key of model, data, loss, optim, schedule and augment is an argument of the group's _target_,\n"
        "such as optim.weight_decay=0. Show the values of a YAML: train --cfg job."
    )
    return "\n\n".join(sections)


def _section(title: str, body: str) -> str:
    return f"{title}\n{textwrap.indent(body, '  ')}"


def _entry(name: str, text: str, width: int) -> str:
    """Return a name and, in a column beside it, a text that is wrapped to the width."""
    column = 34
    name, lines = printable(name), textwrap.wrap(printable(text), max(width - column - 4, 30))
    first = f"{name:<{column - 1}} " if len(name) < column else f"{name}\n{'':<{column}}"
    return first + f"\n{'':<{column}}".join(lines)


def _default(field: Field) -> str:
    """Return the default of a key as a user would type it."""
    value = field.default_factory() if callable(field.default_factory) else field.default
    return "$TRAINER_DATA" if str(value).startswith("${oc.env") else show(schema.as_typed(field, value))
