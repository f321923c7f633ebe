"""The command line is a contract: flags, help, streams and exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.processes import HEAVY, run_without
from helpers.runs import REPOSITORY
from trainer import __version__, cli
from trainer.config import schema
from trainer.config.parse import parse

QUICK = ["model=ann", "debug=fast"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["predict", "nowhere", "x"], ["evaluate", "x"], ["export", "x", "--format", "onnx"]])
def test_a_mistyped_run_is_answered_without_torch(words: list[str]) -> None:
    done = run_without(HEAVY, *words)
    assert done.returncode == 2, done.stderr
    assert "there is no such run: expected a run folder or a checkpoint file." in done.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("trainer e", ["plain,evaluate", "plain,explain", "plain,export"]),
        ("trainer t", ["plain,train"]),
        ("trainer list o", ["plain,optim"]),
        ("trainer list ru", ["plain,runs"]),
        ("trainer predict outp", ["file,outp"]),
        ("trainer predict RUN phot", ["file,phot"]),
        ("trainer evaluate outp", ["file,outp"]),
        ("trainer report outp", ["file,outp"]),
        ("trainer predict --cal", ["plain,--calibrated"]),
        ("trainer train mod", []),
        ("trainer nothing mod", []),
    ],
)
def test_the_shell_completes_verbs(words: str, found: list[str], monkeypatch: pytest.MonkeyPatch, verb) -> None:
    for name, value in (
        ("COMP_WORDS", words),
        ("COMP_CWORD", str(words.count(" "))),
        ("_TRAINER_COMPLETE", "bash_complete"),
    ):
        monkeypatch.setenv(name, value)
    done = verb()
    assert (done.code, done.out.split(), done.err) == (0, found, "")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_verb_with_the_shells_exit_code(number: int, code: int, verb) -> None:
    """The signal arrives while the doctor reads the user's own data."""
    Path("signalled.py").write_text(f"""
import signal
import torch

class Points(torch.utils.data.TensorDataset):
    def __init__(self):
        signal.raise_signal({number})
        super().__init__(torch.randn(60, 4), torch.arange(60) % 3)
""")
    done = verb("doctor", "data=custom", "data._target_=signalled.Points", "model=mlp", "threads=1")
    assert (done.code, done.out) == (code, "")
    sys.modules.pop("signalled")


def test_python_m_trainer_trains_and_prints_plain_lines(train_process) -> None:
    done = train_process("train", *QUICK, "epochs=3", "plots=false")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert len(epoch_rows(done.stdout)) == 3


def epoch_rows(text: str) -> list[str]:
    """The lines between the row of names and the line that says why training stopped."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[:3] == ["epoch", "step", "lr"])
    last = next(i for i, line in enumerate(lines) if line.startswith("stopped "))
    return [line for line in lines[first + 1 : last] if line]


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"]])
def test_version(words: list[str], train_process) -> None:
    assert train_process(*words).stdout == f"trainer {__version__}\n"


def test_rows_are_numbered_and_repeated_in_the_log(train) -> None:
    done = train(*QUICK, "epochs=2")
    rows = epoch_rows(done.out)
    assert [row.split()[0] for row in rows] == ["1", "2"]
    log = (done.folder / "train.log").read_text()
    assert all(row in log for row in rows)
    assert "\x1b" not in log
    assert done.err == ""


def test_help_begins_with_examples_and_names_everything(train) -> None:
    text = train("--help").out
    sections = re.findall(r"^(\S.*)\n  ", text, re.MULTILINE)
    assert sections[0] == "Examples"
    for key in schema.documented_keys():
        assert re.search(rf"^  {re.escape(key[0])}=", text, re.MULTILINE), key[0]
    for path in (REPOSITORY / "conf").glob("*/*.yaml"):
        section = text.partition(f"\n{path.parent.name}=\n")[2].partition("\n\n")[0]
        assert re.search(rf"^  {path.stem}\s", section, re.MULTILINE), path


@pytest.mark.slow
def test_the_help_shows_defaults_as_a_user_types_them(train) -> None:
    text = train("--help").out
    for default in ("threads=auto", "test=auto", "data.resident=auto", "data.workers=null", "data.root=$TRAINER_DATA"):
        assert f"  {default} " in text


@pytest.mark.slow
def test_the_examples_of_the_help_are_sound(train) -> None:
    examples = [line.split("  ")[0].split() for line in re.findall(r"^  (train .*)", train("-h").out, re.MULTILINE)]
    assert len(examples) >= 5
    for _, *words in examples:
        if "-m" not in words and not any(word.startswith("resume=") for word in words):
            done = train(*words) if "--cfg" in words else train(*words, "--cfg", "job")
            assert done.code == 0, words


def test_the_help_lists_a_users_own_files(train) -> None:
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/widest.yaml").write_text("# As wide as it gets\n_target_: mymodule.Net\n")
    assert re.search(r"^  widest +As wide as it gets$", train("--help", "--config-dir", "mine").out, re.MULTILINE)
    assert "widest" not in train("--help").out


def test_cfg_job_prints_the_configuration_and_trains_nothing(train) -> None:
    done = train("--cfg", "job", "model=cnn", "optim=sgd", "optim.lr=0.25", "epochs=7", "freeze=[conv1.*]")
    tree = yaml.safe_load(done.out)
    assert done.code == 0
    assert tree["model"]["_target_"] == "trainer.models.cnn.CNN"
    assert tree["optim"] == {
        "_target_": "torch.optim.SGD",
        "backbone_lr": None,
        "decay_all": True,
        "layer_decay": None,
        "lr": 0.25,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0,
    }
    assert tree["epochs"] == 7
    assert tree["freeze"] == ["conv1.*"]
    assert tree["data"]["root"] == str(Path("data").absolute())
    assert not list(Path().iterdir())


def test_what_cfg_job_prints_is_a_sound_configuration(train) -> None:
    assert parse(yaml.safe_load(train("--cfg", "job").out))[1] == []


@pytest.mark.parametrize(
    "words", ["--cfg job model=ann epochs=3", "model=ann --cfg job epochs=3", "model=ann epochs=3 -c job"]
)
def test_flags_may_stand_anywhere(words: str, train) -> None:
    tree = yaml.safe_load(train(*words.split()).out)
    assert (tree["model"]["_target_"], tree["epochs"]) == ("trainer.models.mlp.ANN", 3)


@pytest.mark.parametrize(("variable", "root"), [(None, "data"), ("elsewhere", "elsewhere")])
def test_data_root_comes_from_the_environment_and_is_absolute(variable, root, train, monkeypatch) -> None:
    if variable:
        monkeypatch.setenv("TRAINER_DATA", variable)
    assert yaml.safe_load(train("--cfg", "job").out)["data"]["root"] == str(Path.cwd() / root)


def test_exit_codes(train) -> None:
    assert train(*QUICK).code == 0
    early = train(*QUICK, "epochs=9", "patience=1", "optim.lr=0")
    assert (early.code, early.results["status"]) == (0, "early_stopped")
    assert train(*QUICK, "epochs=none").code == 2
    diverged = train(*QUICK, "optim=sgd", "optim.lr=1e30")
    assert (diverged.code, diverged.results["status"]) == (1, "diverged")
    assert "Traceback" not in diverged.err


def test_our_own_mistakes_show_a_traceback() -> None:
    with pytest.raises(ZeroDivisionError), cli.ExitCode("train"):
        1 // 0  # noqa: B018


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error() -> None:
    program = [sys.executable, "-m", "trainer", "--help"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predit", "x"], "predit: no such verb. Did you mean predict? There is: train, evaluate, predict, explain,"),
        (["--quick"], "No such option '--quick'"),
        (["predict", "--tp", "3"], "predict: No such option '--tp'"),
    ],
)
def test_a_misspelt_verb_or_option_is_answered(words: list[str], sentence: str, verb) -> None:
    done = verb(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"trainer: error: {sentence}")
    assert len(done.err.splitlines()) == 1
