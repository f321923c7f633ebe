"""A user's own YAML and modules: found where they should be, and never in the way of the installed ones."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from helpers.runs import REPOSITORY

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_features, num_outputs, width=7):
        super().__init__()
        self.hidden, self.last = nn.Linear(in_features, width), nn.Linear(width, num_outputs)

    def forward(self, x):
        return self.last(self.hidden(x.flatten(1)).relu())
"""


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_a_model_of_ones_own_is_a_yaml_and_a_class(train) -> None:
    write("own_net.py", NET)
    write("conf/model/mine.yaml", "# Mine\n_target_: own_net.Net\nwidth: 11\n")
    done = train("model=mine", "epochs=1")
    assert done.code == 0, done.err
    assert done.results["parameters"]["total"] == (64 + 1) * 11 + (11 + 1) * 10
    assert done.folder.name.endswith("digits-mine")


def test_a_target_may_be_typed(train) -> None:
    write("typed_net.py", NET)
    done = train("model._target_=typed_net.Net", "model.width=5", "epochs=1")
    assert done.code == 0, done.err
    assert done.results["parameters"]["total"] == (64 + 1) * 5 + (5 + 1) * 10
    assert (done.folder.name.split("-", 3)[3], "model      Net: " in done.out) == ("digits-Net", True)
    assert train(f"resume={done.folder}", "epochs=2", "trust=true").code == 0


def test_what_a_users_module_lacks_is_not_blamed_on_the_user_s_target(train) -> None:
    write("needs_more.py", "import no_such_library\n" + NET)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        train("model._target_=needs_more.Net")


def test_data_of_ones_own_is_split_or_asked_for_its_splits(train) -> None:
    code = """
import torch

class Whole(torch.utils.data.Dataset):
    def __init__(self, size=100):
        self.size = size
    def __len__(self):
        return self.size
    def __getitem__(self, index):
        return torch.full((4,), float(index)), index % 2

class InParts(Whole):
    def __init__(self, split):
        super().__init__({"train": 40, "valid": 10, "test": 20}[split])
"""
    write("own_data.py", code)
    words = ["data=custom", "model=ann", "epochs=1"]
    whole = train(*words, "data._target_=own_data.Whole")
    assert sum(entry["total"] for entry in whole.results["test"]["per_class"]) == 20
    parts = train(*words, "data._target_=own_data.InParts")
    assert "40 train, 10 valid, 20 test" in parts.out


def optimizer_of(done) -> dict:
    assert done.code == 0, done.err
    return yaml.safe_load(done.out)["optim"]


def test_a_users_yaml_wins_over_the_shipped_one_and_config_dir_over_conf(train) -> None:
    assert optimizer_of(train("--cfg", "job"))["lr"] == 1e-3
    write("conf/optim/adamw.yaml", "_target_: torch.optim.AdamW\nlr: 0.5\n")
    mine = optimizer_of(train("--cfg", "job"))
    assert mine["lr"] == 0.5
    assert "weight_decay" not in mine  # a file of the same name takes the shipped one's place, it adds nothing to it
    write("other/optim/adamw.yaml", "_target_: torch.optim.AdamW\nlr: 0.7\n")
    assert optimizer_of(train("--cfg", "job", "--config-dir", "other"))["lr"] == 0.7
    write("other/optim/only.yaml", "_target_: torch.optim.SGD\nlr: 0.9\n")
    assert optimizer_of(train("optim=only", "--cfg", "job", "--config-dir", "other"))["lr"] == 0.9


def test_a_users_folder_adds_to_the_shipped_options(train) -> None:
    write("conf/optim/mine.yaml", "defaults: [sgd]\nlr: 0.25\n")
    merged = optimizer_of(train("optim=mine", "--cfg", "job"))
    assert (merged["_target_"], merged["lr"], merged["momentum"]) == ("torch.optim.SGD", 0.25, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config", "trainer_config"])  # the shipped root's, and its name inside Hydra
def test_a_users_root_configuration_is_not_used(name: str, train) -> None:
    before = train("--cfg", "job").out
    write(f"conf/{name}.yaml", "epochs: 1\ndefaults:\n  - model: cnn\n")
    write("conf/optim/other.yaml", "_target_: torch.optim.SGD\n")  # so that the folder is one of groups, too
    assert train("--cfg", "job").out == before


def test_an_experiment_of_ones_own_sets_groups_and_keys_and_yields_to_what_is_typed(train) -> None:
    write(
        "conf/experiment/mine.yaml",
        "# @package _global_\ndefaults:\n  - override /model: cnn\nepochs: 5\noptim:\n  lr: 0.125\n",
    )
    tree = yaml.safe_load(train("experiment=mine", "--cfg", "job", "epochs=6").out)
    assert tree["model"]["_target_"] == "trainer.models.cnn.CNN"
    assert (tree["epochs"], tree["optim"]["lr"]) == (6, 0.125)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "-m trainer"])
def test_a_module_in_the_current_folder_shadows_nothing(command: str) -> None:
    for name in ("yaml", "rich", "hydra", "omegaconf", "argparse", "difflib"):
        write(f"{name}.py", f"raise SystemExit('{name} is shadowed')\n")
    if command == "train":
        program = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "train")]
        if not Path(program[1]).is_file():
            pytest.skip("the program is not installed here")
    else:
        program = [sys.executable, *command.split()]
    done = subprocess.run(
        [*program, "model=lenet"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert "shadowed" not in done.stderr
    assert "Did you mean model=lenet5?" in done.stderr
