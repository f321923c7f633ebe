"""Fine-tuning: from a run of this program, on greyscale images, on few images per class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch.nn import functional as F

from helpers.components import assemble, build_model
from helpers.datasets import random_images
from helpers.trees import same_tree
from trainer.components.assemble import Components
from trainer.components.metadata import Preprocessing
from trainer.records.metrics import read_metrics
from trainer.training import checkpoint

pytestmark = pytest.mark.slow

FEW = ["batch_size=32", "debug.batches=4", "test=false"]
SMALL = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "model.image_size=32"]
GOOGLENET = ["model=torchvision", "model.name=googlenet", "model.image_size=32"]


def rows(path: Path) -> list[dict]:
    return read_metrics(path / "metrics.csv")


# From a run


@pytest.mark.parametrize("average", [[], ["ema.decay=0.5"]], ids=["plain", "averaged"])
def test_a_run_starts_where_another_ended(average: list[str], train) -> None:
    words = ["model=lenet5", *FEW, "data.seed=0"]
    first = train(*words, "epochs=2", *average)
    assert first.results["best_epoch"] == 2
    ended = rows(first.folder)[-1]
    # The last checkpoint's weights are those that were trained, not their average.
    for named in ("", "checkpoints/best.pt", *(["checkpoints/last.pt"] if not average else [])):
        done = train(*words, "seed=1", f"model.weights={first.folder / named}", "baseline=true", "max_steps=1")
        assert done.code == 0, done.err
        assert "weights: 10 of 10 tensors" in " ".join(done.out.split())
        assert rows(done.folder)[0]["valid_loss"] == pytest.approx(ended["valid_loss"], abs=1e-6)
        assert rows(done.folder)[0]["valid_accuracy"] == ended["valid_accuracy"]


def test_a_run_on_a_table_starts_where_another_ended(train) -> None:
    rows_of_table = "".join(f"{i % 7},{i % 5},{'ab'[i % 3 == 0]}\n" for i in range(60))
    Path("table.csv").write_text(f"p,q,y\n{rows_of_table}")
    words = ["data=csv", "data.path=table.csv", "data.target=y", "model=mlp", "data.seed=0", "test=false"]
    first = train(*words, "epochs=1")
    done = train(*words, "seed=1", f"model.weights={first.folder}", "baseline=true", "epochs=1")
    assert done.code == 0, done.err
    assert rows(done.folder)[0]["valid_loss"] == pytest.approx(rows(first.folder)[-1]["valid_loss"], abs=1e-6)


def test_another_number_of_classes_gets_a_new_head_and_the_rest_is_taken(train) -> None:
    first = train("model=lenet5", *FEW, "epochs=1")
    words = ["model=lenet5", *FEW, "data.relabel={low: [0,1,2], middle: [3,4,5], high: rest}", "freeze=backbone"]
    done = train(*words, f"model.weights={first.folder}", "epochs=1")
    assert done.code == 0, done.err
    assert "fc3.weight 10x84 there, 3x84 here, fc3.bias 10 there, 3 here" in " ".join(done.out.split())
    trained = checkpoint.load(first.folder / "checkpoints" / "best.pt")["model"]
    found = checkpoint.load(done.folder / "checkpoints" / "best.pt")["model"]
    assert all(torch.equal(found[name], trained[name]) for name in trained if not name.startswith("fc3."))


@pytest.mark.parametrize("words", [["model=lenet5"], [*SMALL]], ids=["grey", "grey to colour"])
def test_the_statistics_are_those_of_the_run_that_is_started_from(words: list[str], train, job) -> None:
    first = train(*words, "model.weights=none", *FEW, "epochs=1")
    stored = checkpoint.load(first.folder / "checkpoints" / "best.pt")["prepare"]
    fresh, other = (
        assemble(job(*words, f"model.weights={weights}", *FEW, "data.seed=5").config).data.prepare
        for weights in ("none", first.folder)
    )
    assert tuple(stored["mean"]) == other.mean != fresh.mean
    assert tuple(stored["std"]) == other.std != fresh.std


def test_the_weights_may_be_gone_when_a_run_is_resumed(train) -> None:
    first = train("model=lenet5", *FEW, "epochs=1")
    weights = Path("weights.pt")
    weights.write_bytes((first.folder / "checkpoints" / "best.pt").read_bytes())
    words = ["model=lenet5", *FEW, "epochs=2", "data.seed=5", "model.weights=weights.pt"]
    whole, stopped = train(*words), train(*words, "max_steps=4")
    weights.unlink()
    done = train(f"resume={stopped.folder}", "max_steps=null")
    assert done.code == 0, done.err
    ends = [checkpoint.load(d.folder / "checkpoints" / "last.pt") for d in (whole, done)]
    assert same_tree(ends[0]["run"]["model"], ends[1]["run"]["model"])
    assert ends[0]["prepare"] == ends[1]["prepare"]


def test_a_fine_tuned_model_keeps_what_it_does_to_its_inputs(train, job, monkeypatch, tmp_path) -> None:
    entry = torchvision.models.get_model_weights("googlenet").DEFAULT  # which has its own idea of mean and std
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    Path("hub/checkpoints").mkdir(parents=True)
    state = torchvision.models.get_model("googlenet", num_classes=1000, init_weights=False).state_dict()
    torch.save(state, Path("hub/checkpoints") / entry.url.rpartition("/")[2])
    words = [*GOOGLENET, "model.init_weights=false", "batch_size=4", "debug.batches=1", "test=false"]
    first = train(*words, "max_steps=1", "optim=sgd", "model.weights=default")
    assert first.code == 0, first.err
    before, after = (assemble(job(*words, f"model.weights={weights}").config) for weights in ("default", first.folder))
    assert after.state.model.transform_input == before.state.model.transform_input
    assert after.data.prepare.mean == before.data.prepare.mean


# Data


def test_grey_images_are_repeated_for_a_model_of_colours(train) -> None:
    done = train("model=resnet18", "model.weights=none", "model.image_size=32", *FEW, "epochs=1", "debug.batches=1")
    assert done.code == 0, done.err
    output = " ".join(done.out.split())
    assert "images resized from 8x8 to 32x32 and repeated from 1 to 3 channels" in output
    prepare = checkpoint.load(done.folder / "checkpoints" / "best.pt")["prepare"]
    assert len(prepare["mean"]) == 1


def test_a_grey_image_has_published_statistics_channel_by_channel(job) -> None:
    config = job(*SMALL, "model.weights=none").config
    data = random_images((1, 8, 8))
    wanted = Preprocessing(32, None, (100.0, 120.0, 140.0), (50.0, 60.0, 70.0), published=True)
    build_model(config, data, wanted)
    raw = data.splits["train"].samples.inputs[:3]
    found = data.prepare(raw)
    large = F.interpolate(raw.float(), (32, 32), mode="bilinear", antialias=True)
    for channel, (mean, std) in enumerate(((100, 50), (120, 60), (140, 70))):
        torch.testing.assert_close(found[:, channel], (large[:, 0] - mean) / std, rtol=0, atol=1e-5)


def test_at_most_so_many_of_each_class(job) -> None:
    def parts(*words: str) -> Components:
        return assemble(job("model=ann", *words).config)

    whole, first, again = parts(), parts("data.per_class=7"), parts("data.per_class=7")
    other, many = parts("data.per_class=7", "data.seed=1"), parts("data.per_class=120")
    kept = {name: p.data.splits["train"] for name, p in (("first", first), ("again", again), ("other", other))}
    assert kept["first"].targets.bincount().tolist() == [7] * 10
    assert torch.equal(kept["first"].indices, kept["again"].indices)
    assert not torch.equal(kept["first"].indices, kept["other"].indices)
    assert set(kept["first"].indices.tolist()) <= set(whole.data.splits["train"].indices.tolist())
    for name in ("valid", "test"):
        assert torch.equal(first.data.splits[name].indices, whole.data.splits[name].indices)
    counts = whole.data.splits["train"].targets.bincount()
    assert torch.equal(many.data.splits["train"].targets.bincount(), counts.clamp(max=120))


def test_so_many_of_each_class_needs_classes(train) -> None:
    done = train("data=diabetes", "model=mlp", "data.per_class=3")
    assert done.code == 2
    assert "data.per_class" in done.err
