"""Freezing and layer-wise learning rates: which layers are frozen, until when, and with which rate each trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.components import assemble, resolved
from helpers.trees import same_tree
from helpers.words import calibrated_words
from trainer.components.optimizer import build_optimizer
from trainer.errors import UserError
from trainer.models.lenet import LeNet5
from trainer.models.vision import torchvision_model
from trainer.records.metrics import read_metrics
from trainer.training import checkpoint
from trainer.training.freeze import freeze

SHUFFLENET = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "model.weights=none", "model.image_size=32"]
FEW = ["batch_size=16", "debug.batches=3", "test=false"]  # three steps an epoch


def last(path: Path) -> dict:
    """Return the state that a run would be resumed from."""
    return checkpoint.load(path / "checkpoints" / "last.pt")["run"]


def split_at_head(weights: dict, head: str) -> tuple[dict, dict]:
    """The tensors outside the head, and the head's."""
    inside = {name: value for name, value in weights.items() if name.startswith(f"{head}.")}
    return {name: value for name, value in weights.items() if name not in inside}, inside


# Freezing


@pytest.mark.parametrize("cache", ["auto", "false"])
@pytest.mark.slow
def test_a_frozen_backbone_does_not_move_by_a_bit(cache: str, train, job) -> None:
    words = [
        *calibrated_words("mobilenet_v3_small"),
        "freeze=backbone",
        f"model.cache_features={cache}",
        *FEW,
        "epochs=2",
    ]
    before = assemble(job(*words).config).state.model.state_dict()
    done = train(*words)
    assert done.code == 0, done.err
    assert ("computed once and cached" in done.out) == (cache == "auto")
    saved = last(done.folder)
    backbone, head = split_at_head(before, "classifier.3")
    backbone_after, head_after = split_at_head(saved["model"], "classifier.3")
    assert any(name.endswith("running_var") for name in backbone)
    assert same_tree(backbone_after, backbone)
    assert not any(torch.equal(head[name], head_after[name]) for name in head)
    assert len(saved["optimizer"]["param_groups"][0]["params"]) == 2
    assert len(saved["optimizer"]["state"]) == 2
    assert "10,250 trained" in done.out  # 1024 x 10 weights and 10 biases
    assert done.results["parameters"]["trainable"] == 10_250


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "googlenet", "ann"])
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
@pytest.mark.slow
def test_dropout_of_the_frozen_part_is_off(name: str, job) -> None:
    words = ["model=ann", "model.dropout=0.5"] if name == "ann" else calibrated_words(name)
    parts = assemble(job(*words, "freeze=backbone", "model.cache_features=false", *FEW).config)
    population = parts.population
    inputs, targets = next(iter(parts.train.epoch(0)))
    population.train()
    outputs = [population.forward(inputs, targets, micro)[0] for micro in range(2)]  # other masks, if there were any
    assert torch.equal(*outputs)
    population.eval()
    assert outputs[0].std(0).min() > 1e-3
    torch.testing.assert_close(population.outputs(inputs), outputs[0])


@pytest.mark.slow
def test_dropout_of_the_head_is_on(job) -> None:
    words = [*calibrated_words("mobilenet_v3_small"), "model.head=mlp", "model.dropout=0.5", "freeze=backbone", *FEW]
    parts = assemble(job(*words, "model.cache_features=false").config)
    inputs, targets = next(iter(parts.train.epoch(0)))
    parts.population.train()
    assert not torch.equal(*(parts.population.forward(inputs, targets, micro)[0] for micro in range(2)))


BACKBONE = {f"{layer}.{name}" for layer in ("conv1", "conv2", "fc1", "fc2") for name in ("weight", "bias")}
PATTERNS = {
    "conv1.*": {"conv1.weight", "conv1.bias"},
    "conv*.weight fc1.*": {"conv1.weight", "conv2.weight", "fc1.weight", "fc1.bias"},
    "backbone fc3.bias": BACKBONE | {"fc3.bias"},
    "backbone conv1.*": BACKBONE,
    "": set(),
}


@pytest.mark.parametrize("patterns", PATTERNS)
@pytest.mark.slow
def test_patterns_hold_what_they_match(patterns: str) -> None:
    model = LeNet5()
    frozen = freeze(model, patterns.split())
    held = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert held == PATTERNS[patterns]
    assert len(frozen.parameters) == len(held)
    frozen.unfreeze()
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("pattern", ["conv1.*", "none"])
@pytest.mark.slow
def test_what_matches_stays_and_all_else_moves(pattern: str, train, job) -> None:
    words = ["model=lenet5", f"freeze={pattern}", *FEW, "epochs=1"]
    before = assemble(job(*words).config).state.model.state_dict()
    after = last(train(*words).folder)["model"]
    assert {name for name in before if torch.equal(before[name], after[name])} == PATTERNS.get(pattern, set())


@pytest.mark.parametrize(
    ("patterns", "sentence"),
    [
        (["bakbone"], "freeze=bakbone: no parameter has such a name. Did you mean backbone?"),
        (
            ["conv1.*", "convv2.weight"],
            "freeze=convv2.weight: no parameter has such a name. Did you mean conv2.weight?",
        ),
        (["conv*", "fc*"], "nothing is left to train"),
        (["backbone", "fc3.*"], "nothing is left to train"),
    ],
)
@pytest.mark.slow
def test_patterns_that_make_no_sense_are_refused(patterns: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        freeze(LeNet5(), patterns)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["freeze=bakbone"], "Did you mean backbone?"),
        (["unfreeze_at=1", "epochs=3"], "unfreeze_at=1: nothing is frozen. Add freeze=backbone."),
        (["unfreeze_at=3", "epochs=3", "freeze=backbone"], "unfreeze_at=3: expected less than epochs=3"),
        (["unfreeze_at=0", "freeze=backbone"], "unfreeze_at=0"),
        (["optim.backbone_lr=0.1", "~optim.lr"], "optim.lr: a value is needed"),
    ],
)
@pytest.mark.slow
def test_a_run_that_makes_no_sense_is_refused(words: list[str], sentence: str, train) -> None:
    done = train("model=lenet5", *words)
    assert done.code == 2
    assert sentence in done.err
    assert done.folder is None


# Unfreezing

OPTIONS = {
    "cosine, averaged": ["schedule=cosine", "ema.decay=0.9"],
    "momentum, clipped": ["optim=sgd", "optim.backbone_lr=1e-3", "clip_norm=1"],
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.slow
def test_the_head_moves_first_then_all_and_resume_is_exact_around_it(name: str, train, job) -> None:
    words = ["model=mnist_classifier", "freeze=backbone", "unfreeze_at=1", *OPTIONS[name], *FEW, "epochs=2"]
    start = assemble(job(*words).config).state.model.state_dict()
    whole = train(*words)
    assert whole.code == 0, whole.err
    expected = last(whole.folder)
    for stop in (2, 3, 4):  # before, at, and after the moment
        stopped = train(*words, f"max_steps={stop}")
        backbone, moved = split_at_head(last(stopped.folder)["model"], "output")
        before, head_before = split_at_head(start, "output")
        assert not any(torch.equal(moved[name], head_before[name]) for name in moved)
        if stop <= 3:
            assert same_tree(backbone, before)
        else:
            held = [name for name in backbone if torch.equal(backbone[name], before[name])]
            assert not held
        done = train(f"resume={stopped.folder}", "max_steps=null")
        assert done.code == 0, done.err
        assert same_tree(last(done.folder)["model"], expected["model"])
        assert same_tree(last(done.folder)["optimizer"], expected["optimizer"])
        assert same_tree(last(done.folder)["average"], expected["average"])


# Learning rates


def rates(job, model: nn.Module, *words: str) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter; the head's group is the first one."""
    config = job("optim=sgd", "optim.lr=0.1", "+optim.weight_decay=0.01", *words).config
    names = {parameter: name for name, parameter in model.named_parameters()}
    target, frozen_too = resolved(config, "optim").optim, config.unfreeze_at is not None
    made = build_optimizer(config.optim, target, model, torch.device("cpu"), frozen_too=frozen_too)
    assert made.param_groups[0]["lr"] == 0.1
    return {names[p]: (group["lr"], group["weight_decay"]) for group in made.param_groups for p in group["params"]}


@pytest.mark.parametrize(
    ("words", "by_hand"),
    [
        (["optim.backbone_lr=0.01"], {"fc3": 0.1, "fc2": 0.01, "fc1": 0.01, "conv2": 0.01, "conv1": 0.01}),
        (["optim.layer_decay=0.5"], {"fc3": 0.1, "fc2": 0.05, "fc1": 0.025, "conv2": 0.0125, "conv1": 0.00625}),
        (
            ["optim.layer_decay=0.5", "optim.backbone_lr=0.02", "optim.decay_all=false"],
            {"fc3": 0.1, "fc2": 0.01, "fc1": 0.005, "conv2": 0.0025, "conv1": 0.00125},
        ),
        (["optim.decay_all=false"], dict.fromkeys(("fc3", "fc2", "fc1", "conv2", "conv1"), 0.1)),
    ],
)
def test_each_layer_has_its_learning_rate(words: list[str], by_hand: dict, job) -> None:
    for name, (lr, decay) in rates(job, LeNet5(), *words).items():
        assert lr == pytest.approx(by_hand[name.partition(".")[0]], rel=1e-12)
        assert decay == (0.0 if "optim.decay_all=false" in words and name.endswith("bias") else 0.01)


@pytest.mark.slow
def test_layers_are_the_blocks_of_a_residual_network(job) -> None:
    blocks = ["conv1", "bn1", *(f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)), "fc"]
    with torch.device("meta"):
        found = rates(job, torchvision_model("resnet18", 10), "optim.layer_decay=0.5")
    for name, (lr, _) in found.items():
        (place,) = [i for i, block in enumerate(reversed(blocks)) if name.startswith(f"{block}.")]
        assert lr == pytest.approx(0.1 * 0.5**place)


@pytest.mark.slow
def test_layers_are_the_blocks_of_a_transformer(job) -> None:
    blocks = ["conv_proj", *(f"encoder.layers.encoder_layer_{i}" for i in range(12)), "encoder.ln", "heads"]
    with torch.device("meta"):
        found = rates(job, torchvision_model("vit_b_16", 10), "optim.layer_decay=0.5")
    for name, (lr, _) in found.items():
        lowest = name in ("class_token", "encoder.pos_embedding")
        above = [i for i, block in enumerate(reversed(blocks)) if name.startswith(f"{block}.")]
        assert lr == pytest.approx(0.1 * 0.5 ** (len(blocks) - 1 if lowest else above[0])), name


@pytest.mark.slow
def test_branches_side_by_side_are_one_layer(job) -> None:
    with torch.device("meta"):
        found = rates(job, torchvision_model("googlenet", 10, aux_logits=False), "optim.layer_decay=0.5")
    of_block = {lr for name, (lr, _) in found.items() if name.startswith("inception4c.")}
    assert len(of_block) == 1


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.slow
def test_the_schedule_scales_all_rates_and_the_table_tells_the_heads(schedule: str, train) -> None:
    words = ["model=lenet5", "optim=adamw", "optim.lr=1e-2", "optim.backbone_lr=1e-3", "optim.layer_decay=0.5"]
    done = train(*words, f"schedule={schedule}", *FEW, "epochs=4")
    assert done.code == 0, done.err
    build_optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-2)
    by_hand = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(build_optimizer, 1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(build_optimizer, 12),
        "one_cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(build_optimizer, 1e-2, 12),
    }[schedule]()
    seen = []
    for _ in range(12):
        build_optimizer.step()
        seen.append(build_optimizer.param_groups[0]["lr"])
        by_hand.step()
    written = [row["lr"] for row in read_metrics(done.folder / "metrics.csv")]
    assert written == pytest.approx(seen[2::3], rel=1e-9)
    groups = last(done.folder)["optimizer"]["param_groups"]
    shares = [group["lr"] / groups[0]["lr"] for group in groups if schedule != "cosine"]  # which ends at 0
    assert shares == pytest.approx([1, 0.1 / 16, 0.1 / 8, 0.1 / 4, 0.1 / 2][: len(shares)], rel=1e-6)
