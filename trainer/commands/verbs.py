"""`trainer VERB ...`: the verbs, each in a module of its own that is imported when it is used. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, shell_complete

from trainer.errors import Problem, UserError, suggestions

# What `trainer --help` shows; a verb's own help is its command's.
VERBS: dict[str, str] = {
    "evaluate": "the test of finished runs again, on their own data or on other data",
    "predict": "classes or values of images and rows of tables",
    "export": "a trained model as ONNX, pt2 or state dict, checked against torch",
    "report": "write report.html: a run as one self-contained page",
    "compare": "runs side by side: what was different, and what came of it",
    "doctor": "what is wrong with machine, configuration and data, before a run",
    "init": "copy the YAML files to ./conf, to be changed there",
    "list": "models, data, optimizers, ... to choose from; the runs so far",
}


class Verbs(click.Group):
    """A group whose commands are found by name: `trainer.commands.NAME` has a click command called `command`."""

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
        if unknown and not context.resilient_parsing:  # which a shell does that completes: it wants no sentences
            known = self.list_commands(context)
            raise UserError(Problem(name, "no such verb", advice=suggestions(name, known)))
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
    """What can be done with runs, before and after training. A RUN is a run folder or a checkpoint in one."""


def complete(asked: str) -> int:
    """Answers a shell that completes a command line, which stands in its environment; returns the exit code."""
    return shell_complete(verbs, {}, "trainer", "_TRAINER_COMPLETE", asked)


def run_verb(words: Sequence[str]) -> int:
    """Runs a verb with its arguments; returns the exit code.

    Raises:
        UserError: a verb, an option or an argument is wrong.
    """
    try:
        code = verbs.main(list(words), prog_name="trainer", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help())
        return 0
    except click.UsageError as error:
        place = f"{error.ctx.info_name}: " if error.ctx is not None and error.ctx.parent is not None else ""
        raise UserError(f"{place}{' '.join(error.format_message().split())}") from error
    except click.Abort:
        return 130
    return code if isinstance(code, int) else 0
