"""Invalid input is reported in one sentence before work starts; nothing is left behind."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest
import torch

from helpers.processes import HEAVY, environment, processor_limit, run_python, run_without
from helpers.runs import CompletedCommand

MISTAKES = {
    # Names
    "model=lenet": ["model=lenet: no such model", "Did you mean model=lenet5?", "sequential_cnn"],
    "experiment=nothing": ["experiment=nothing: no such experiment", "lenet5_mnist"],
    "modle=lenet5": ["modle: no such key", "Did you mean model=lenet5?"],
    "lr=0.1": ["lr: no such key", "Did you mean optim.lr=0.1?"],
    "epochs.x=1": ["epochs.x=1", "epochs has no keys below it"],
    "hydra.run.dir=x": ["hydra.run.dir=x: hydra/launcher is the only one"],
    "model@other=ann": ["model@other=ann", "model=..."],
    "~model": ["~model", "cannot be left out"],
    "--epochs 3": ["--epochs: no such flag", "epochs=3"],
    "-x": ["-x: no such flag"],
    "epochs": ["epochs: expected key=value"],
    "--cfg everything": ["--cfg", "'everything'", "job"],
    "--config-dir nowhere": ["--config-dir nowhere: no such folder"],
    "batch_size=1,2": ["batch_size=1,2: several values make a sweep: train -m batch_size=1,2"],
    # Types and ranges
    "epochs=abc": ["epochs=abc: expected a whole number from 1"],
    "epochs=-3": ["epochs=-3: expected a whole number from 1"],
    "epochs=2.5": ["epochs=2.5: expected a whole number from 1"],
    "epochs=": ["epochs=: expected a whole number from 1"],
    "epochs=${nothing}": ["Interpolation key 'nothing' not found", "epochs"],
    "monitor=valid_acuracy": ["monitor=valid_acuracy", "Did you mean valid_accuracy?"],
    "device=tpu": ["device=tpu: expected auto, cuda, cuda:N, mps or cpu"],
    "name=a/b": ["name=a/b: expected letters"],
    # Arguments of targets
    "optim.lrr=1": ["optim.lrr: torch.optim.AdamW has no such argument", "Did you mean optim.lr?"],
    "optim.lr=nan": ["optim.lr=nan: expected a finite number"],
    "optim.lr=abc": ["optim.lr=abc: expected a number"],
    "optim.lr=true": ["optim.lr=true: expected a number"],
    "optim.lr=-1": ["optim.lr=-1", "torch.optim.AdamW", "Invalid learning rate: -1"],
    "model.size=3": ["model.size: trainer.models.lenet.LeNet5 has no such argument", "in_channels"],
    "model.in_channels=-1": ["model", "in_channels=-1"],
    "model.in_channels=3": ["trainer.models.lenet.LeNet5: it cannot take inputs of [1, 32, 32]", "channel"],
    "model.num_outputs=3": ["returns (2, 3)", "the task needs (2, 10)"],
    "schedule=step schedule.step_size=0 epochs=2": ["schedule", "step_size=0"],
    # Targets
    "data=custom": ["data._target_: a value is needed: data._target_=..."],
    "model._target_=os.system": ["model._target_=os.system: it is not a torch.nn.Module"],
    "model._target_=torch.load": ["model._target_=torch.load: it is not a torch.nn.Module"],
    "model._target_=torch.hub.load": ["model._target_=torch.hub.load: it is not a torch.nn.Module"],
    "optim._target_=torch.nn.Linear": ["optim._target_=torch.nn.Linear: it is not a torch.optim.Optimizer"],
    "model._target_=foo.Bar": ["model._target_=foo.Bar: there is no module foo"],
    "model._target_=torch.nn.Liner": ["torch.nn has no Liner", "Did you mean torch.nn.Linear?"],
    "model._target_=Net": ["model._target_=Net: expected module.name, such as mymodule.Net"],
    "model._target_=3": ["model._target_=3: expected module.name"],
    "model._target_=..Net": ["model._target_=..Net: expected module.name, such as mymodule.Net"],
    "model._target_=null": ["model._target_: a value is needed, a torch.nn.Module"],
    "data._target_=null": ["data._target_: a value is needed, a torch.utils.data.Dataset"],
    "~model._target_": ["model._target_: a value is needed, a torch.nn.Module"],
    # What only the data can tell
    "loss=bce_with_logits": ["loss=bce_with_logits: it fits two classes, and the data has 10", "loss=cross_entropy"],
    "loss=cross_entropy loss.reduction=none": ["loss", "reduction=none"],
    "loss._target_=torch.nn.MSELoss": ["loss=mse: it fits a number", "Use loss=cross_entropy"],
    "freeze=[nothing.*]": ["freeze=nothing.*: no parameter has such a name", "conv1.weight"],
    "freeze=[*]": ["freeze=*: nothing is left to train"],
    "data=image_folder data.root=nowhere": ["nowhere: no such folder", "data.root="],
    "schedule.warmup_epochs=30": ["schedule.warmup_epochs=30: expected less than epochs=30"],
    "schedule=one_cycle schedule.warmup_epochs=1": ["schedule.warmup_epochs", "schedule.pct_start"],
    "data.valid_fraction=0.00001": ["data.valid_fraction=1e-05", "none would be held out"],
    "model=mnist_classifier batch_size=1 debug=fast": ["batch_size=1: BatchNorm needs two samples or more"],
    # Resuming
    "resume=nowhere": ["resume=nowhere: expected a run folder", "there is no such folder"],
    "resume=.": ["resume=.: expected a run folder", "it has no config.yaml"],
    "resume=latest": ["resume=latest: there is no unfinished run in"],
    # Several at once
    "seed=-1 epochs=0 patience=x batch_sise=3 model=lenet --lr 0.1": [
        "seed=-1:",
        "epochs=0:",
        "patience=x:",
        "batch_sise: no such key. Did you mean batch_size=3?",
        "model=lenet: no such model",
        "--lr: no such flag. Write keys without dashes: lr=0.1",
    ],
    "optim.lrr=1 model._target_=foo.Bar epochs=0": ["optim.lrr:", "model._target_=foo.Bar:", "epochs=0:"],
    "optim.lr=abc epochs=0": ["optim.lr=abc: expected a number", "epochs=0:"],
    "optim.lr=-1 epochs=0": ["Invalid learning rate: -1", "epochs=0:"],
}

# A user's files, the command line that meets them, and what its answer must contain.
FILES = {
    "misspelt argument": (
        "optim/mine",
        "_target_: torch.optim.SGD\nlrr: 0.1",
        ["optim.lrr:", "Did you mean optim.lr?"],
    ),
    "misspelt key": ("experiment/mine", "# @package _global_\nepocs: 3", ["mine.yaml: epocs: no such key", "epochs?"]),
    "wrong type": ("experiment/mine", "# @package _global_\nepochs: abc", ["mine.yaml: epochs=abc: expected a whole"]),
    "not a number": (
        "optim/mine",
        "_target_: torch.optim.SGD\nlr: .nan",
        ["mine.yaml: optim.lr=nan: expected a finite"],
    ),
    "foreign kind": ("model/mine", "_target_: torch.load", ["model._target_=torch.load: it is not a torch.nn.Module"]),
    "empty": ("optim/mine", "", ["optim._target_: a value is needed, a torch.optim.Optimizer"]),
    "no YAML": ("optim/mine", "_target_: [", ["mine.yaml: while parsing a flow node", "line 2"]),
    "tabs": ("model/mine", "\t_target_: mymodule.Net", ["mine.yaml: while scanning for the next token", "line 1"]),
    "a list": ("optim/mine", "- 1", ["optim/mine", "Cannot merge DictConfig with ListConfig"]),
    "unknown option": (
        "experiment/mine",
        "# @package _global_\ndefaults:\n  - override /model: nothing",
        ["Could not find 'model/nothing'", "lenet5"],
    ),
}


def check(done: CompletedCommand, fragments: list[str], before: set[Path]) -> None:
    """A wrong command ends with 2, explains itself on stderr in lines of one sentence, and leaves nothing."""
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err
    assert all(line.startswith("train: error: ") for line in done.err.splitlines())
    missing = [fragment for fragment in fragments if fragment not in done.err]
    assert not missing, done.err
    assert set(Path().rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_answered(words: str, train) -> None:
    check(train(*words.split()), MISTAKES[words], set())


@pytest.mark.slow
@pytest.mark.parametrize("what", FILES)
def test_a_mistake_in_a_users_file_is_answered(what: str, train) -> None:
    name, text, fragments = FILES[what]
    path = Path("conf") / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text + "\n")
    check(train(name.replace("/", "=")), fragments, set(Path().rglob("*")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_device_that_is_not_there_is_no_silent_cpu(device: str, train) -> None:
    check(train(f"device={device}"), [f"device={device}: torch sees no CUDA device", "device=cpu"], set())


def test_each_problem_is_told_once(train) -> None:
    assert len(train("epochs=0", "seed=-1").err.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("model=lenet", 2),
        ("epochs=abc", 2),
        ("--epochs 3", 2),
        ("resume=nowhere", 2),
        ("lr=0.1", 2),
        ("epochs=0 optim.lr=0.1", 2),
        ("--help", 0),
        ("--version", 0),
        ("--cfg job", 0),
        ("-sc query=bash", 0),
    ],
)
def test_the_answer_comes_at_once_and_without_torch(words: str, code: int) -> None:
    variables = environment(COMP_LINE="train model=", COMP_POINT="12")
    with processor_limit(2):
        done = run_without(HEAVY, "train", *words.split(), env=variables)
    assert done.returncode == code, done.stderr
    if words.startswith("-sc"):
        assert "model=lenet5" in done.stdout.split()


def on_terminal(**variables: str) -> str:
    """Return the output of a wrong command on a terminal."""
    keyboard, terminal = pty.openpty()
    env = {name: value for name, value in environment(TERM="xterm-256color").items() if name != "NO_COLOR"}
    done = run_python("-m", "trainer", "model=lenet", stderr=terminal, env={**env, **variables})
    os.close(terminal)
    with open(keyboard, "rb") as file:
        text = file.read1(10_000).decode()
    assert done.returncode == 2
    assert "no such model" in text
    return text


@pytest.mark.slow
def test_colours_only_on_a_terminal_and_not_under_no_color() -> None:
    assert "\x1b[31m" in on_terminal()
    assert "\x1b" not in on_terminal(NO_COLOR="1")
