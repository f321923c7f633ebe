"""`trainer doctor`: planted faults are found, sound data gives no findings, and every message is a sentence."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.datasets import write_visits
from helpers.runs import REPOSITORY
from trainer.doctor import leaks, rates
from trainer.errors import Problem, first_few
from trainer.report.findings import SEVERITIES, Finding, Report

_spec = importlib.util.spec_from_file_location("doctor_faults", REPOSITORY / "scripts" / "doctor_faults.py")
faults = importlib.util.module_from_spec(_spec)
sys.modules["doctor_faults"] = faults
_spec.loader.exec_module(faults)
CASES = {case.name: case for case in faults.cases()}
# One for each set of faults, and the sound ones; the script makes them all, many times.
CHOSEN = {case.faults or case.name: name for name, case in reversed(CASES.items()) if not case.train}
CHOSEN |= {name: name for name, case in CASES.items() if case.independent}
MACHINE = {"threads", "disk", "memory"}


@pytest.mark.slow
@pytest.mark.parametrize("name", dict.fromkeys(CHOSEN.values()))
def test_a_planted_fault_is_found_and_nothing_else(name: str) -> None:
    case = CASES[name]
    checks = faults.reported_checks(case, seed=11)
    assert case.faults <= checks
    assert checks <= case.faults | case.more


def doctor(verb, *words: str) -> tuple[int, dict]:
    done = verb("doctor", "--json", "threads=1", *words)
    assert done.err == ""
    found = json.loads(done.out)
    found["findings"] = [f for f in found["findings"] if f["check"] not in MACHINE]  # others may use it too
    return done.code, found


@pytest.mark.slow
def test_training_is_tried(verb) -> None:
    code, found = doctor(verb, "data=iris", "model=mlp", "--lr")
    assert code == 0
    assert not [f for f in found["findings"] if f["severity"] != "note"]
    facts = found["facts"]
    assert facts["training"]["one_batch"] == "completed"
    assert facts["training"]["one_batch_loss"] < 0.01
    assert facts["training"]["seconds_per_epoch"] > 0
    assert facts["training"]["peak_memory_bytes"] > 1e8
    assert facts["data"]["samples"] == {"train": 96, "valid": 24, "test": 30}
    assert 1e-4 < facts["learning rate"]["suggested"] < 1
    assert facts["configuration"]["parameters"] > 0
    assert facts["machine"]["torch"] == torch.__version__.partition("+")[0]
    with Image.open("lr_range.png") as image:
        assert image.format == "PNG"
    assert not Path("outputs").exists()


@pytest.mark.slow
def test_a_learning_rate_that_explodes_is_an_error(verb) -> None:
    code, found = doctor(verb, "data=iris", "model=mlp", "optim=sgd", "optim.lr=1e6")
    assert code == 1
    worst = found["findings"][0]
    assert worst["severity"] == "error"
    assert "not finite" in worst["what"]


@pytest.mark.slow
def test_a_frozen_model_learns_no_batch(verb) -> None:
    Path("still.py").write_text(
        "import torch\n\n\nclass Still(torch.nn.Linear):\n"
        "    def __init__(self, in_features, num_outputs):\n        super().__init__(in_features, num_outputs)\n\n"
        "    def forward(self, x):\n        return super().forward(x * 1e-9)\n"
    )
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/still.yaml").write_text("_target_: still.Still\n")
    code, found = doctor(verb, "data=iris", "model=still", "optim=sgd", "optim.lr=1e-5")
    by_check = {f["check"]: f for f in found["findings"]}
    assert code == 0, by_check
    assert by_check["one batch"]["severity"] == "warning"
    assert "does not overfit" in by_check["one batch"]["what"]


def test_columns_that_look_like_groups_are_named(verb) -> None:
    words = ("data=csv", "data.path=visits.csv", "data.target=ill", "model=mlp")
    write_visits()
    _, found = doctor(verb, *words, "data.drop=[part]", "--no-training")
    [group] = [finding for finding in found["findings"] if finding["check"] == "groups"]
    assert group["what"].startswith("column patient has 40 values in 200 rows, like people or things")
    assert group["advice"] == "keep the rows of each together: data.group=patient"
    code, found = doctor(verb, *words, "data.drop=[part]", "data.group=patient", "--no-training")
    assert code == 0
    assert not any(finding["check"] == "groups" for finding in found["findings"])
    _, found = doctor(verb, "data=wine", "model=mlp", "--no-training")
    assert not any(finding["check"] == "groups" for finding in found["findings"])


def test_findings_say_what_to_do(verb) -> None:
    faults.photos(np.random.default_rng(0))
    Path("photos/train/cat/000.png").write_bytes(b"nothing")
    Path("photos/valid/dog").rename("photos/valid/dogs")
    done = verb("doctor", *faults.FOLDER)
    assert (done.code, done.err) == (1, "")
    out = done.out
    assert re.search(
        r"^error +unreadable images: 1 of 72 images cannot be used: \S+photos/train/cat/000.png", out, re.MULTILINE
    )
    assert re.search(r"^ +-> repair or delete them", out, re.MULTILINE)
    assert re.search(r"class lists: classes in train but not in valid: dog. Did you mean dogs", out)
    assert "Traceback" not in out
    assert "not checked   one batch: the data cannot be loaded" in out
    assert re.search(r"\d+ checks: 3 errors, ", out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "check", "sentence"),
    [
        (["model=lenet"], "composes", "did you mean model=lenet5?"),
        (["epochs=-3", "optim.lrr=1"], "composes", "epochs=-3: expected a whole number from 1"),
        (["epochs=-3", "optim.lrr=1"], "composes", "did you mean optim.lr?"),
        (["optim.lrr=1"], "targets", "did you mean optim.lr?"),
        (["device=cuda:99"], "device", "device=cuda:99"),
        (["model._target_=os.system"], "targets", "os.system: it is not a torch.nn.Module"),
        (["data=image_folder", "data.root=nowhere"], "class lists", "no such folder"),
        (["data=csv", "data.path=nowhere.csv", "data.target=x", "model=mlp"], "unusable columns", "no such file"),
        (["data=mnist", "data.root=/dev/null/x"], "data", "MNIST is not in this folder"),
        (["seed=0,1"], "composes", "several values make a sweep"),
    ],
)
def test_wrong_configurations_are_findings(words: list[str], check: str, sentence: str, verb) -> None:
    code, found = doctor(verb, *words)
    assert code == 1
    assert any(f["check"] == check and sentence in f"{f['what']} {f['advice']}" for f in found["findings"]), found[
        "findings"
    ]


def test_bad_files_that_are_to_be_skipped_are_a_warning(verb) -> None:
    faults.photos(np.random.default_rng(0))
    Path("photos/test/eel/001.jpg").write_bytes(b"")
    code, found = doctor(verb, *faults.FOLDER, "data.on_bad_image=skip", "--no-training")
    assert code == 0
    assert [(f["check"], f["severity"], f["count"]) for f in found["findings"]] == [("unreadable images", "warning", 1)]


def test_a_last_batch_of_one_is_told(verb) -> None:
    code, found = doctor(verb, *faults.BATCHNORM, "batch_size=19", "--no-training")  # 96 = 5 * 19 + 1
    assert code == 0
    assert [f["check"] for f in found["findings"] if f["check"] == "last batch"] == ["last batch"]


@pytest.mark.slow
def test_held_batchnorm_minds_no_batch_of_one(verb) -> None:
    words = (
        "data=digits",
        "model=resnet18",
        "model.weights=none",
        "model.image_size=32",
        "batch_size=3",
        "--no-training",
    )
    samples = doctor(verb, *words)[1]["facts"]["data"]["samples"]["train"]
    assert samples % 3 == 1, "the case needs a sample to be left over"
    for more, expected in (((), ["last batch"]), (("freeze=backbone",), [])):
        found = doctor(verb, *words, *more)[1]["findings"]
        assert [f["check"] for f in found if f["check"] == "last batch"] == expected


@pytest.mark.slow
def test_sentences_count_and_name_the_first(verb) -> None:
    def table(count: int = 120, **columns: list) -> list[dict]:
        faults.rows(np.random.default_rng(0), count, **columns)
        return doctor(verb, *faults.TABLE, "--no-training")[1]["findings"]

    numbers = [f"{x / 7:.3f}" for x in range(120)]
    [bad] = table(m=[*numbers[:3], "none at all", *numbers[4:60], *["?!"] * 4, *numbers[64:]])
    assert bad["what"] == "column m: 5 cells are not finite numbers, the first in row 5: 'none at all'"
    [missing] = table(m=["none", "NA", "", "none", *numbers[4:]])
    assert missing["what"] == "values are missing: m 4 ('none' 2, 'NA' 1)"
    [hidden] = table(m=[f"{number} kg" for number in numbers])
    assert hidden["what"] == "column m holds numbers with a unit ('0.000 kg')"
    assert hidden["advice"] == "write the numbers alone, or leave it out: data.drop=[m]"
    [target] = table(target=[*numbers[:5], "abc", *numbers[6:]])
    assert "row 7, column target: 'abc' is not a finite number, where 119 are numbers" in target["what"]
    [names] = table(target=[f"p{n}" for n in range(120)])
    assert "column target, the target, has 120 different values in 120 rows" in names["what"]
    notes = table(240, k=[0] * 239 + [1], a=[n % 2 for n in range(240)], b=[1 - n % 2 for n in range(240)])
    assert [(f["check"], f["what"]) for f in notes] == [
        ("constant columns", "column k is almost constant: '0' in all but 1 of 240 rows"),
        ("repeated columns", "column b is the same as a in other codes"),
    ]


def test_what_is_left_out_of_a_folder_is_said(verb) -> None:
    faults.photos(np.random.default_rng(0))
    Path("photos/valid").rename("photos/vaild")
    Path("photos/train/cat/notes.txt").write_text("nothing")
    Path("photos/train/dog/x.png").symlink_to("nowhere")
    Path("photos/test/eel/000.png").rename("photos/test/000.png")
    found = doctor(verb, *faults.FOLDER, "--no-training")[1]["findings"]
    assert [(f["severity"], f["count"]) for f in found] == [("warning", 24), ("warning", 1), ("note", 1), ("note", 1)]
    assert found[0]["what"].endswith("Did you mean valid?")
    for finding, word in zip(found, ("vaild", "photos/test outside", "dog/x.png", "1 file"), strict=True):
        assert word in finding["what"]


def test_names_that_differ_invisibly_are_quoted(verb) -> None:
    faults.photos(np.random.default_rng(0))
    Path("photos/valid/cat").rename("photos/valid/cat ")
    Path("photos/test/dog").rename("photos/test/do\u200bg")
    found = doctor(verb, *faults.FOLDER, "--no-training")[1]["findings"]
    sentences = " ".join(f["what"] for f in found)
    assert "'cat '" in sentences
    assert r"'do\u200bg'" in sentences


@pytest.mark.slow
@pytest.mark.parametrize("count", [40, 400, 4000])
def test_a_column_of_chance_tells_nothing(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    for _ in range(20):
        values = torch.randn(count, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 3, (count,), generator=generator)
        assert not leaks.determines_class(values, labels)
        assert not leaks.determines_class(values.round(), labels)
        assert not leaks.determines_number(values, torch.randn(count, generator=generator, dtype=torch.float64))
        close = labels + 0.4 * torch.randn(count, generator=generator, dtype=torch.float64)
        assert not leaks.determines_class(close, labels)  # informative, and no more
        assert not leaks.determines_number(values.round(), values.sort().values)  # a file sorted by its target
        assert not leaks.determines_class(values, torch.arange(count))  # a class for each sample
        assert not leaks.determines_class(values, torch.arange(count) // 2 % (count // 3))
        groups = torch.randint(0, count // 5, (count,), generator=generator).double()
        assert not leaks.determines_number(groups, values)


def test_the_suggested_rate_is_where_the_loss_falls_fastest() -> None:
    losses = [2.0, 2.0, 2.0, 2.0, 2.0, 1.9, 1.2, 0.8, 0.7, 0.69, 0.9, 3.0]
    rate = [10.0**n for n in range(len(losses))]
    assert rates.suggest(rate, losses) == rate[6]
    assert rates.suggest(rate, [2.0] * len(losses)) is None
    assert rates.suggest(rate[:5], losses[:5]) is None
    assert rates.smoothed([3.0, 3.0, 3.0]) == pytest.approx([3.0] * 3)


def test_a_report_puts_the_worst_first() -> None:
    report = Report()
    for severity in reversed(SEVERITIES):
        report.add("a check", severity, 1, "something")
    assert [f.severity for f in report.ordered()] == list(SEVERITIES)
    assert report.failed
    assert first_few("abcdef") == "a, b, c and 3 more"


def test_a_problem_is_an_error_of_the_check_that_it_names() -> None:
    problem = Problem("a.b", "too large", given="9", advice="Use less", command="a.b=1", source="x.yaml", check="scale")
    expected = Finding("scale", "error", 1, "x.yaml: a.b=9: too large", "use less: a.b=1")
    assert Finding.from_problem(problem, "data") == expected
    assert Finding.from_problem(Problem("a", "wrong"), "data") == Finding("data", "error", 1, "a: wrong")
