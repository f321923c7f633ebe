"""samples.png: the first training batch as the model sees it; drawing it changes nothing of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.components import assemble
from helpers.outcome import run_outcome
from helpers.trees import same_tree
from trainer.report import plots
from trainer.run import first_batch

WORDS = ("data=digits", "model=lenet5", "threads=1", "epochs=1", "max_steps=3")


@pytest.mark.parametrize("extra", [[], ["augment=flip_crop", "augment.mixup=0.4"], ["data.resident=false"]])
def test_the_picture_has_the_inputs_and_targets_of_the_first_step(extra: list[str], job, monkeypatch) -> None:
    parts = assemble(job(*WORDS, *extra).config)
    inputs, targets = next(iter(parts.train.epoch(0)))
    drawn = {}
    monkeypatch.setattr(plots, "mistakes", lambda path, images, captions: drawn.update(images=images, texts=captions))
    state = torch.get_rng_state()
    first_batch.draw_first_batch(Path(), parts)
    assert torch.equal(torch.get_rng_state(), state)
    prepare = parts.data.prepare
    expected = inputs[:24] * prepare.std[0] + prepare.mean[0]
    assert torch.allclose(drawn["images"], expected, atol=1e-4)
    labels = targets[:24].argmax(1) if targets.ndim == 2 else targets[:24]
    assert [text.split()[0] for text in drawn["texts"]] == [parts.data.task.classes[label] for label in labels]


@pytest.mark.slow
def test_a_run_with_pictures_has_the_same_results_and_shows_them(train) -> None:
    drawn = train(*WORDS, "plots=true")
    assert drawn.code == 0, drawn.err
    assert (drawn.folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    page = (drawn.folder / "report.html").read_text()
    for words in ("First batch", "conv1", "61,706, 61,706 trained", "data:image/png;base64"):
        assert words in page
    plain = train(*WORDS)
    for part in ("last", "best"):
        assert same_tree(run_outcome(drawn.folder)[part], run_outcome(plain.folder)[part])
    assert drawn.results["test"] == plain.results["test"]
    table = train("data=iris", "model=mlp", "threads=1", "epochs=1", "plots=true")
    assert not (table.folder / "samples.png").exists()
    assert "First batch" not in (table.folder / "report.html").read_text()
