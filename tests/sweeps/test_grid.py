"""Grids: every combination is composed first, ranked by validation, and only the winner is tested."""

from __future__ import annotations

import re
import signal
import statistics
from pathlib import Path

import pytest

from helpers.faulty_models import write, write_faulty
from helpers.fork_server import ForkServer
from helpers.processes import processor_limit
from helpers.sweeps import TINY, all_weights, contents, ledger, places, results, rows, states, table
from helpers.trees import same_tree
from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.errors import UserError
from trainer.records.compare import varying
from trainer.sweeps.grid import compose_jobs, identity, names, read_overrides
from trainer.sweeps.plan import make_plan
from trainer.sweeps.validate import validate


def composed(*words: str) -> list[Job]:
    composer = Composer()
    return compose_jobs(composer, read_overrides(composer, words))


def test_a_sweep_over_tables_has_a_job_for_each() -> None:
    """Though a resumed run may read its table from elsewhere."""
    jobs = composed("data=csv", "data.target=y", "data.path=a.csv,b.csv", "model=mlp")
    assert [job.stored["data"]["path"] for job in jobs] == ["a.csv", "b.csv"]
    assert varying(jobs) == [{"data.path": "a.csv"}, {"data.path": "b.csv"}]


def test_typed_classes_tell_jobs_apart_once() -> None:
    jobs = composed("model._target_=nets.A,nets.B")
    assert [each.choices["model"] for each in jobs] == ["A", "B"]
    assert varying(jobs) == [{"model._target_": "nets.A"}, {"model._target_": "nets.B"}]


def values(jobs: list[Job], *keys: str) -> list[tuple]:
    """Return the values of these dotted keys for each job."""
    answer = []
    for job in jobs:
        row = []
        for key in keys:
            node = job.stored
            for name in key.split("."):
                node = node[name]
            row.append(node)
        answer.append(tuple(row))
    return answer


def test_the_last_key_of_a_grid_varies_fastest() -> None:
    jobs = composed("optim.lr=1e-3,1e-2", "data=iris", "seed=range(3)")
    assert values(jobs, "optim.lr", "seed") == [(lr, seed) for lr in (1e-3, 1e-2) for seed in range(3)]
    jobs = composed("seed=range(1,8,3)", "epochs=4,2")
    assert values(jobs, "seed", "epochs") == [(1, 4), (1, 2), (4, 4), (4, 2), (7, 4), (7, 2)]


def test_groups_globs_and_hydras_sweep_functions() -> None:
    assert [job.choices["model"] for job in composed("model=glob(mnist*)")] == ["mnist_classifier"]
    assert [job.choices["model"] for job in composed("model=cnn,ann")] == ["cnn", "ann"]
    assert values(composed("seed=choice(3,1)"), "seed") == [(3,), (1,)]
    assert values(composed("seed=sort(3,1,2)"), "seed") == [(1,), (2,), (3,)]
    assert sorted(values(composed("seed=shuffle(range(5))"), "seed")) == [(n,) for n in range(5)]
    jobs = composed("model=mlp", "model.hidden=[8],[16,16],[]", "name=null")
    assert values(jobs, "model.hidden") == [([8],), ([16, 16],), ([],)]


def test_experiments_by_glob() -> None:
    for name, rate in (("ours_a", 0.25), ("ours_b", 0.5)):
        write(f"conf/experiment/{name}.yaml", f"# @package _global_\noptim:\n  lr: {rate}\n")
    jobs = composed("experiment=glob(ours_*)", "seed=0,1")
    assert values(jobs, "optim.lr", "seed") == [(0.25, 0), (0.25, 1), (0.5, 0), (0.5, 1)]
    assert [row["experiment"] for row in varying(jobs)] == ["ours_a", "ours_a", "ours_b", "ours_b"]


@pytest.mark.slow
def test_experiments_that_cannot_run_are_named_and_excluded_by_the_suggested_override() -> None:
    with pytest.raises(UserError) as caught:
        composed("experiment=glob(*)")
    problems = [str(problem) for problem in caught.value.problems]
    draws = [line for line in problems if line.startswith("experiment=random_search: ")]
    assert draws
    assert all("random draw" in line for line in draws)
    assert [line for line in problems if line.startswith("experiment=water_potability: data.path: a value is needed")]
    assert len(problems) == len(draws) + 2
    word = problems[-1].rpartition(": ")[2].strip("'")
    assert word == "experiment=glob(*,exclude=[random_search,water_potability])"
    chosen = {job.choices["experiment"] for job in composed(word)}
    assert {"iris", "wine", "lenet5_mnist"} <= chosen
    assert not chosen & {"random_search", "water_potability"}
    with pytest.raises(UserError) as caught:
        composed("experiment=iris,wine", "epochs=-1")
    assert len(caught.value.problems) == 1
    assert str(caught.value.problems[0]).startswith("epochs=-1: ")  # a problem of all experiments names none


def test_duplicate_jobs_are_removed() -> None:
    jobs = composed("seed=1,2,1", "optim.lr=1e-3,0.001")
    assert values(jobs, "seed", "optim.lr") == [(1, 1e-3), (2, 1e-3)]
    assert len({identity(job) for job in jobs}) == 2


@pytest.mark.parametrize("words", ["model=glob(nothing*)", "seed=range(5,5)", "experiment=glob(nothing*)"])
def test_a_sweep_without_jobs_is_refused(words: str, sweep) -> None:
    done = sweep("-m", "data=iris", words)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("word", ["optim.lr=interval(0,1)", "seed=range(1,)", "seed=1,,2", "seed=glob(*)"])
def test_invalid_lists_of_values_are_refused(word: str, sweep) -> None:
    done = sweep("-m", word)
    assert done.code == 2
    assert word in done.err
    assert "Traceback" not in done.err


def test_names_are_unique_and_safe() -> None:
    varies = [
        {"model.path": "../../x", "a": None},
        {"model.path": "a b\tc\n*?\\/:é", "a": [1, {"b": 2}]},
        {"model.path": "x" * 300, "a": 1e-10},
        {"model.path": "x" * 300, "a": 2e-10},
        {},
        {},
        {"model.path": "CON. "},
    ]
    named = names(varies) + names(varies, start=998)
    assert len({name.lower() for name in named}) == len(named)
    for number, name in enumerate(named[: len(varies)]):
        assert re.fullmatch(r"[A-Za-z0-9.,=_-]+", name)
        assert int(name.partition("-")[0]) == number
        assert len(name) <= 200
        assert name[-1] not in ". "
        Path(name).mkdir()


@pytest.mark.slow
def test_256_jobs_are_composed_and_checked_in_time() -> None:
    words = ["model=lenet5,cnn,ann,mlp", "optim=adam,sgd", "optim.lr=1e-4,1e-3,1e-2,1e-1", "seed=range(8)"]
    words += ["data=digits"]
    with processor_limit(20):
        jobs = composed(*words)
        assert len(jobs) == len({identity(job) for job in jobs}) == 256
        assert len(set(names(varying(jobs)))) == 256
        validate(jobs, make_plan(jobs, jobs[0].config.sweep), trusted=True)


def test_mistakes_of_all_jobs_are_reported_before_the_first_starts(sweep) -> None:
    done = sweep("-m", "epochs=1,-2", "optim.lr=1e-3,fast", "model=ann,cnnn", "seed=range(-1,1)", "--lr")
    assert done.code == 2
    assert done.folder is None
    assert not Path("outputs").exists()
    lines = done.err.splitlines()
    for fragment in ("epochs=-2: expected a whole", "model=cnnn: no such model", "seed=-1: expected", "--lr: no such"):
        assert len([line for line in lines if fragment in line]) == 1
    assert all(line.startswith("train: error: ") for line in lines)
    with pytest.raises(UserError, match="nothing"):
        composed("epochs=1,2", "name=${nothing}")


def test_all_jobs_that_do_not_fit_the_data_are_refused_together(sweep) -> None:
    done = sweep("-m", "data=iris", "model=mlp,lenet5,perceptron", "optim.lr=1e-3,-1")
    assert done.code == 2
    assert "optim.lr=-1" in done.err
    done = sweep("-m", "data=iris", "model=mlp,lenet5", "monitor=valid_loss,valid_rmse")
    assert done.code == 2
    assert "LeNet5: it takes images" in done.err
    assert "monitor=valid_rmse: the task is" in done.err
    assert not Path("outputs").exists()


def test_a_grid_is_ranked_and_only_its_winner_tested(sweep) -> None:
    done = sweep("-m", *TINY, "model=mlp,ann", "optim.lr=1e-4,1e-2", "epochs=2")
    assert done.code == 0, done.err
    assert done.err == ""
    rows = table(done.folder)
    assert {(row["model"], row["optim.lr"]) for row in rows} == {
        (model, lr) for model in ("mlp", "ann") for lr in ("0.0001", "0.01")
    }
    losses = [float(row["valid_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert [bool(row["test"]) for row in rows] == [True, False, False, False]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    for row in rows:
        summary = results(done.folder / row["job"])
        assert summary["valid"]["loss"] == float(row["valid_loss"])
        assert (summary["test"] is not None) == bool(row["test"])
        assert (done.folder / row["job"] / "config.yaml").is_file()
    assert results(done.folder / rows[0]["job"])["test"]["accuracy"] == float(rows[0]["test"])


def test_a_winner_is_tested_with_all_its_seeds(sweep) -> None:
    done = sweep("-m", *TINY, "optim.lr=1e-5,5e-2", "seed=range(3)", "epochs=3")
    assert done.code == 0, done.err
    assert len(re.findall("^testing ", done.out, re.MULTILINE)) == 1
    leaderboard = table(done.folder)
    tests = [float(row["test"]) for row in leaderboard if row["optim.lr"] == "0.05"]
    assert len(tests) == 3
    assert not any(row["test"] for row in leaderboard if row["optim.lr"] == "1e-05")
    best, other = rows(done.folder / "leaderboard_groups.csv")
    assert (best["standing"], other["standing"], other["test"]) == ("best", "", "")
    assert float(best["test"]) == pytest.approx(statistics.fmean(tests))
    assert float(best["test std"]) == pytest.approx(statistics.stdev(tests))
    before = contents(done.folder / leaderboard[0]["job"])
    assert sweep(f"resume={done.folder}").code == 0
    assert contents(done.folder / leaderboard[0]["job"]) == before  # tested once


UNLUCKY = """
    def unlucky(self, outputs):
        try:
            pathlib.Path("met").touch(exist_ok=False)
        except FileExistsError:
            return outputs
        raise ValueError("the first to come here")
"""


def test_a_setting_that_fails_with_a_seed_does_not_win(sweep) -> None:
    words = write_faulty()
    write("faulty.py", Path("faulty.py").read_text() + UNLUCKY)
    done = sweep("-m", *words, "model.fault=none,unlucky", "model.at=1", "seed=0,1", "epochs=2")
    assert done.code == 1
    assert set(states(done.folder).values()) == {"done", "failed"}
    best, other = rows(done.folder / "leaderboard_groups.csv")
    assert (best["model.fault"], best["n"], best["missing"]) == ("none", "2", "")
    assert (other["model.fault"], other["n"], other["missing"]) == ("unlucky", "1", "1")
    assert {row["model.fault"] for row in table(done.folder) if row["test"]} == {"none"}


def test_a_sweep_that_stopped_has_no_winner_yet(sweep) -> None:
    words = (*write_faulty(), "model.fault=none,raises", "seed=0,1,2", "model.at=1", "sweep.workers=1")
    done = sweep("-m", *words, "sweep.on_error=stop")
    assert done.code == 1
    assert "pending" in states(done.folder).values()
    assert not any(row["test"] for row in table(done.folder))


@pytest.mark.parametrize(("word", "tested"), [("test=false", []), ("test=true", [0, 1])])
def test_the_test_key_decides_which_jobs_are_tested(word: str, tested: list[int], sweep) -> None:
    done = sweep("-m", *TINY, "seed=0,1", "epochs=1", word)
    assert done.code == 0
    assert [n for n, place in enumerate(places(done.folder)) if results(place)["test"]] == tested


def test_a_larger_accuracy_is_better_and_an_early_stop_is_no_failure(sweep) -> None:
    done = sweep("-m", *TINY, "optim.lr=1e-5,0.05,0.5", "epochs=9", "monitor=valid_accuracy", "patience=1")
    assert done.code == 0
    accuracies = [float(row["valid_accuracy"]) for row in table(done.folder)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > accuracies[-1]
    assert set(states(done.folder).values()) == {"done"}
    assert "early_stopped" in {results(place)["status"] for place in places(done.folder)}


def test_an_experiment_may_be_a_sweep_whose_values_can_be_replaced(sweep) -> None:
    done = sweep("experiment=lr_grid", *TINY, "epochs=1")
    assert {row["optim.lr"] for row in table(done.folder)} == {"0.01", "0.001", "0.0001", "1e-05"}
    assert values(composed("experiment=lr_grid", "optim.lr=0.5,0.25"), "optim.lr") == [(0.5,), (0.25,)]


def test_showing_a_configuration_trains_nothing(sweep) -> None:
    done = sweep("-m", "--cfg", "job", *TINY, "seed=0,1", "epochs=1")
    assert done.folder is None


def test_sweeps_started_in_the_same_second_have_separate_folders(server) -> None:
    sweeps = [server.start("-m", *TINY, "seed=0,1", "epochs=1", "test=false") for _ in range(2)]
    folders = set()
    for running in sweeps:
        assert running.end().code == 0
    for path in Path("outputs").glob("20*/*"):
        folders.add(path)
        assert set(states(path).values()) == {"done"}
        assert len(ledger(path)) == 1 + 2 + 4
    assert len(folders) == 2
    assert same_tree(*(all_weights(path) for path in folders))


REWRITE = """
    def slow(self, outputs):
        for path in ("conf/model/faulty.yaml", "conf/experiment/ours.yaml"):
            text = pathlib.Path(path).read_text()
            pathlib.Path(path).write_text(text.replace("width: 8", "width: 3").replace("lr: 0.5", "lr: 0.25"))
        time.sleep(0.02)
        return outputs
"""


def test_configurations_are_frozen_when_the_sweep_begins(server: ForkServer) -> None:
    words = write_faulty()
    write("faulty.py", Path("faulty.py").read_text() + REWRITE)
    write("conf/model/faulty.yaml", "# Ours\n_target_: faulty.Faulty\nfault: slow\nwidth: 8\nat: 1\n")
    write("conf/experiment/ours.yaml", "# @package _global_\noptim:\n  lr: 0.5\n")
    running = server.start("-m", *words, "experiment=ours", "seed=0,1,2", "epochs=3", "sweep.workers=1")
    running.until(lambda folder: "done" in states(folder).values())
    running.kill(signal.SIGTERM)
    assert "width: 3" in Path("conf/model/faulty.yaml").read_text()
    write("conf/experiment/ours.yaml", "# @package _global_\noptim:\n  lr: 0.125\n")
    frozen = [line["stored"] for line in ledger(running.folder) if "stored" in line]
    done = server.start(f"resume={running.folder}", "trust=true").end()
    assert done.code == 0, done.err
    assert {(stored["model"]["width"], stored["optim"]["lr"]) for stored in frozen} == {(8, 0.5)}
    assert [len(weight["net.1.bias"]) for weight in all_weights(running.folder)] == [8, 8, 8]
    assert {row["lr"] for place in places(running.folder) for row in rows(place / "metrics.csv")} == {"0.5"}
