"""`trainer VERB ...`: the verbs, each in a module that is imported when it is used. Does not import torch."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, shell_complete

from trainer.errors import Problem, UserError, suggestions
from trainer.signals import Interrupted

# Shown by `trainer --help`. The help of a verb is the docstring of its command.
VERBS: dict[str, str] = {
    "evaluate": "evaluate finished runs, on their own data or on other data",
    "predict": "predict classes or values for images and rows of tables",
    "explain": "explain predictions: which pixels or columns decided",
    "export": "export a trained model as ONNX, pt2 or state dict, checked against torch",
    "report": "write report.html: a run as one self-contained page",
    "compare": "compare runs: configuration keys that differ, metrics and curves",
    "summary": "list the layers of a model: shapes, parameters, multiply-adds, memory",
    "doctor": "check machine, configuration and data before a run",
    "init": "copy the YAML files to ./conf, where you can change them",
    "list": "list models, data, optimizers, ..., and past runs",
}


class Verbs(click.Group):
    """A click group that imports a verb's command from `trainer.commands.<verb>` when it is needed."""

    def list_commands(self, context: click.Context) -> list[str]:
        return ["train", *VERBS]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command = importlib.import_module(f"trainer.commands.{name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = words[0]
        unknown = name not in VERBS and not name.startswith("-")
        if unknown and not context.resilient_parsing:  # true while a shell completes, which shows no errors
            advice = suggestions(name, self.list_commands(context))
            raise UserError(Problem(name, "no such verb", advice=advice))
        return super().resolve_command(context, words)

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        words = [CompletionItem(name) for name in self.list_commands(context) if name.startswith(incomplete)]
        return words + click.Command.shell_complete(self, context, incomplete)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([("train", "train a model: the same as the command train"), *VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trainer-cli", prog_name="trainer", message="%(prog)s %(version)s")
def verbs() -> None:
    """Work with runs before and after training. A RUN is a run folder or a checkpoint file in one."""


def complete(instruction: str) -> int:
    """Print completions for the shell, by click's instruction, such as `bash_complete`; return the exit code."""
    return shell_complete(verbs, {}, "trainer", "_TRAINER_COMPLETE", instruction)


def run_verb(words: Sequence[str]) -> int:
    """Run a verb with its arguments; return the exit code.

    Raises:
        UserError: a verb, an option or an argument is wrong.
    """
    try:
        code = verbs.main(list(words), prog_name="trainer", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help())
        return 0
    except click.UsageError as error:
        verb = error.ctx.info_name or "" if error.ctx is not None and error.ctx.parent is not None else ""
        raise UserError(Problem(verb, " ".join(error.format_message().split()).removesuffix("."))) from error
    except click.Abort:
        return 130
    except Interrupted as interruption:
        return interruption.exit_code
    return code if isinstance(code, int) else 0
