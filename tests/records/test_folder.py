"""Run folders: never shared, locked, and read without being trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from helpers.datasets import write_images, write_table
from helpers.metrics import metrics_row
from helpers.processes import HANG_SECONDS, processor_limit
from helpers.runs import REPOSITORY, exit_code
from trainer.config.stored import StoredConfig
from trainer.errors import UserError
from trainer.records.find import run_to_resume
from trainer.records.folder import RunFolder, new_folder
from trainer.records.metrics import read_metrics

CREATE = """
import sys, time
from trainer.records.find import run_to_resume
from trainer.records.folder import RunFolder, new_folder
print("ready", flush=True)
sys.stdin.readline()
kept = [RunFolder(new_folder("same")) for _ in range(5)]
print(*(run.path for run in kept))
"""


def test_runs_started_in_the_same_instant_never_share_a_folder() -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    paths = [path for process in processes for path in process.communicate(timeout=HANG_SECONDS)[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(paths)) == 20
    assert Path("outputs/latest").resolve() in {Path(path).resolve() for path in paths}


def test_folders_have_date_time_and_name_and_latest_is_the_newest() -> None:
    first = RunFolder(new_folder("digits-ann"))
    assert first.path.match("outputs/20??-??-??/??-??-??-digits-ann")
    second = RunFolder(new_folder("digits-ann"))
    assert os.readlink("outputs/latest") == os.path.relpath(second.path, "outputs")  # still right when moved
    first.close()
    second.close()


def test_an_open_folder_is_locked_and_a_closed_one_is_not() -> None:
    run = RunFolder(new_folder("a"))
    with pytest.raises(UserError, match="a run is writing to this folder"):
        RunFolder(run.path)
    run.close()
    RunFolder(run.path).close()


def test_metrics_come_back_as_written_and_begin_anew_on_resume() -> None:
    run = RunFolder(new_folder("a"))
    rows = [metrics_row(1, valid_loss=0.1 + 0.2), metrics_row(2, valid_loss=None)]
    run.start_metrics(["valid_loss"], rows[:1])
    run.add_metrics(rows[1])
    assert read_metrics(run.path / "metrics.csv") == rows
    run.close()
    resumed = RunFolder(run.path)
    resumed.start_metrics(["valid_loss"], rows[:1])
    resumed.close()
    assert read_metrics(run.path / "metrics.csv") == rows[:1]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
ODD = {
    "alias bomb": BOMB,
    "too large": "name: " + "x" * 1_000_000,
    "deep": "[" * 20_000,
    "not text": b"\xff\xfe\x00\x01",
    "empty": "",
    "a list": "- model",
    "no keys": "{}",
    "half": "epochs: 3\n",
    "foreign object": "!!python/object/apply:os.system ['touch canary']",
    "wrong types": "epochs: abc\nmodel: 3\n",
    "keys that are no text": "1: 2\n? [a, b]\n: 3\n",
}


@pytest.mark.parametrize("what", ODD)
def test_odd_configurations_are_refused_at_once(what: str, train) -> None:
    Path("run").mkdir()
    text = ODD[what]
    Path("run/config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with processor_limit(5):
        done = train("resume=run")
    assert done.code == 2
    assert "run/config.yaml" in done.err
    assert len(done.err) < 2000
    assert sorted(map(str, Path().rglob("*"))) == ["run", "run/config.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("trainer.models.mlp.ANN", "torch.load"),
        ("trainer.models.mlp.ANN", "os.system"),
        ("trainer.models.mlp.ANN", "null"),
        ("lr: 0.001", "lr: .inf"),
        ("seed: 0", "seed: -1"),
    ],
)
def test_a_tampered_configuration_is_refused(old: str, new: str, train) -> None:
    path = train("model=ann", "debug=fast", "epochs=1", "test=false").folder
    text = (path / "config.yaml").read_text()
    assert old in text
    (path / "config.yaml").write_text(text.replace(old, new))
    done = train(f"resume={path}", "epochs=2")
    assert done.code == 2
    assert done.err.startswith("train: error: ")


SECRET = "hunter2-and-more"
SECRET_CODE = """
import torch

class Data(torch.utils.data.Dataset):
    def __init__(self, token, url=None):
        assert token == "hunter2-and-more"
    def __len__(self):
        return 60
    def __getitem__(self, index):
        return torch.full((4,), float(index)), index % 3

class Optimizer(torch.optim.SGD):
    def __init__(self, params, lr=0.1, token=None):
        assert token == "hunter2-and-more"
        super().__init__(params, lr=lr)

class Net(torch.nn.Sequential):
    def __init__(self, in_features, num_outputs, token=None):
        assert token == "hunter2-and-more"
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(in_features, num_outputs))
"""
SECRET_YAML = {
    "data": "_target_: {module}.Data\ntoken: ${{oc.env:MY_TOKEN}}\n",
    "model": "_target_: {module}.Net\ntoken: ${{oc.env:MY_TOKEN}}\n",
    "optim": "_target_: {module}.Optimizer\ntoken: ${{oc.env:MY_TOKEN}}\n",
    # The value of one key inside another
    "data by way of another key": (
        "_target_: {module}.Data\ntoken: ${{oc.env:MY_TOKEN}}\nurl: https://me:${{data.token}}@example.org\n"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", SECRET_YAML)
def test_a_secret_from_the_environment_is_written_nowhere(what: str, train, monkeypatch) -> None:
    group, module = what.split()[0], "secret_" + what.replace(" ", "_")
    Path(f"{module}.py").write_text(SECRET_CODE)
    Path(f"conf/{group}").mkdir(parents=True)
    Path(f"conf/{group}/mine.yaml").write_text(SECRET_YAML[what].format(module=module))
    monkeypatch.setenv("MY_TOKEN", SECRET)
    done = train(f"{group}=mine", *([] if group == "model" else ["model=ann"]), "epochs=1", "optim.lr=0.1")
    assert done.code == 0, done.err
    assert yaml.safe_load((done.folder / "config.yaml").read_text())[group]["token"] == "${oc.env:MY_TOKEN}"
    leaking = [path.name for path in done.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not leaking
    assert SECRET not in done.out


@pytest.mark.slow
def test_a_folder_from_the_environment_stays_a_reference_in_every_file(train, sweep, monkeypatch) -> None:
    """Also where files are left out, a test is written, and in all that a sweep leaves."""
    root = write_images(Path(SECRET), {"ant": 12, "bee": 12})
    (root / "ant" / "bad.png").write_bytes(b"no image")
    monkeypatch.setenv("MY_FOLDER", str(root.resolve()))
    words = ("data=image_folder", "data.root=${oc.env:MY_FOLDER}", "data.on_bad_image=skip", "data.size=8")
    words = (*words, "model=mlp", "epochs=1", "threads=1")
    run = train(*words, "plots=true")
    assert run.code == 0, run.err
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["data"]["root"] == "${oc.env:MY_FOLDER}"
    assert [bad["path"] for bad in run.results["skipped_images"]] == ["ant/bad.png"]
    assert exit_code("trainer", "evaluate", run.folder, "--trust") == 0
    resumed = train(f"resume={run.folder}", "epochs=2", "trust=true")
    assert resumed.code == 0, resumed.err
    jobs = sweep("-m", *words, "seed=0,1", "sweep.workers=1", "plots=true", MY_FOLDER=str(root.resolve()))
    assert jobs.code == 0, jobs.err
    more = {run.folder: ["report.html", "train.log"], jobs.folder: ["sweep.jsonl", "leaderboard.html"]}
    for folder, names in more.items():
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {*names, "best.pt", "last.pt", "config.yaml", "results.json"} <= {path.name for path in files}
        assert not [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_table_from_the_environment_stays_a_reference_in_every_file(train, monkeypatch) -> None:
    Path(SECRET).mkdir()
    write_table(Path(SECRET, "table.csv"))
    monkeypatch.setenv("MY_FOLDER", SECRET)
    run = train(
        *("data=csv", "data.path=${oc.env:MY_FOLDER}/table.csv", "data.target=kind", "data.missing=mean"),
        *("data.root=${oc.env:MY_FOLDER}", "model=mlp", "epochs=1", "plots=true"),
    )
    assert run.code == 0, run.err
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["data"]["path"] == "${oc.env:MY_FOLDER}/table.csv"
    assert not [str(path) for path in run.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_the_default_folder_of_the_data_is_stored_as_a_path(job, monkeypatch) -> None:
    """So a run can be resumed without `trust`, and a path below the folder too."""
    assert job().stored["data"]["root"] == str(Path("data").resolve())
    monkeypatch.setenv("TRAINER_DATA", "somewhere")
    stored = job("data=csv", "data.path='${data.root}/table.csv'", "data.target=y").stored["data"]
    assert (stored["root"], stored["path"]) == (str(Path("somewhere").resolve()), "somewhere/table.csv")


def test_a_stored_configuration_reads_no_environment_untrusted(train, monkeypatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "7")
    path = train("model=ann", "epochs=1", "test=false").folder
    text = (path / "config.yaml").read_text().replace("seed: 0", "seed: ${oc.env:MY_TOKEN}")
    (path / "config.yaml").write_text(text)
    done = train(f"resume={path}")
    assert done.code == 2
    assert "trust=true" in done.err


def stored_run(name: str, status: str | None, age: float) -> Path:
    path = Path("outputs/2026-01-01") / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("epochs: 1\n")
    if status:
        (path / "results.json").write_text(json.dumps({"status": status, "epochs": 1}))
    then = time.time() - age
    os.utime(path / "config.yaml", (then, then))
    return path


@pytest.mark.parametrize("status", ["interrupted", "failed", None])
def test_resume_latest_is_the_newest_unfinished(status: str | None) -> None:
    stored_run("10-00-00-a", "interrupted", age=400)
    wanted = stored_run("11-00-00-a", status, age=300)
    stored_run("12-00-00-a", "completed", age=200)
    stored_run("13-00-00-a", "early_stopped", age=100)
    assert run_to_resume("latest") == wanted


def test_resume_latest_goes_on(train) -> None:
    stopped = train("model=ann", "epochs=2", "checkpoint.every=1ep")
    (stopped.folder / "results.json").unlink()  # as a kill leaves it
    train("model=ann", "epochs=1", "seed=1")
    assert train("resume=latest", "epochs=3").code == 0
    assert (stopped.results["status"], stopped.results["epochs"]) == ("completed", 3)


def test_resume_latest_takes_a_run_that_its_time_limit_cut_short(train) -> None:
    cut = train("model=ann", "epochs=3", "max_minutes=0.00001")
    assert cut.results["epochs"] == 0
    assert train("resume=latest", "max_minutes=null").code == 0
    assert cut.results["epochs"] == 3


def test_a_checkpoint_names_its_run() -> None:
    path = stored_run("10-00-00-a", None, age=0)
    assert run_to_resume(str(path / "checkpoints" / "last.pt")) == path


def test_the_chosen_options_come_back() -> None:
    run = RunFolder(new_folder("a"))
    choices = {"model": "lenet5", "data": "mnist_below_3", "experiment": "a-b.c"}
    run.write_config(StoredConfig({"epochs": 1}, choices))
    run.close()
    assert StoredConfig.read(run.path, trusted=False) == StoredConfig({"epochs": 1}, choices)


def test_resume_latest_leaves_a_running_run_alone() -> None:
    older = stored_run("10-00-00-a", "interrupted", age=400)
    running = RunFolder(stored_run("11-00-00-a", None, age=300))
    assert run_to_resume("latest") == older
    running.close()
    assert run_to_resume("latest") == running.path
