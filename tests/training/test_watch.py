"""debug=gradients: its values against torch, and its warnings against runs with the faults they warn of."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import functional as F

from helpers.components import assemble
from helpers.pictures import pixels
from helpers.runs import CompletedCommand
from helpers.trees import same_tree
from trainer.config.schema import Config
from trainer.report.gradients import picture
from trainer.run import gradients
from trainer.training.checkpoint import load
from trainer.training.step import train_step
from trainer.training.watch import Watch

UNSCALED = GradScaler("cpu", enabled=False)
DEEP = "model.hidden=[64,64,64,64,64,64,64,64]"


def rows_of(done: CompletedCommand) -> list[dict]:
    assert done.folder is not None
    return gradients.read(done.folder / "gradients.csv")


def warnings_of(done: CompletedCommand) -> list[str]:
    assert done.folder is not None
    words = ("gradients vanish:", "gradients explode:", "dead units:")
    lines = [line for line in done.err.splitlines() if line.startswith(words)]
    assert lines == [line for line in (done.folder / "train.log").read_text().splitlines() if line.startswith(words)]
    return lines


def norm(tensors: list[Tensor]) -> float:
    return torch.cat([t.detach().double().flatten() for t in tensors]).norm().item()


@pytest.mark.parametrize("parts", [1, 3], ids=["whole batches", "accumulated"])
def test_figures_are_those_of_torch_by_hand(parts: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
    with torch.no_grad():
        model[0].bias[:3] = -100
        model[2].weight *= 6
    hand = copy.deepcopy(model)
    layers = [hand[0], hand[2], hand[4]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, UNSCALED)
    norms, active, flat, ratios = [], torch.zeros(8, dtype=torch.bool), [], []
    for step in range(4):
        inputs, targets = torch.randn(12, 5), torch.randint(3, (12,))
        hand.load_state_dict(model.state_dict())
        hidden = hand[1](hand[0](inputs))
        active |= (hidden > 0).any(0)
        flat.append(hand[:4](inputs).abs() > 0.98)
        loss = F.cross_entropy(hand(inputs), targets)
        norms.append([norm(torch.autograd.grad(loss, layer.parameters(), retain_graph=True)) for layer in layers])
        for part, labels in zip(inputs.chunk(parts), targets.chunk(parts), strict=True):
            (F.cross_entropy(model(part), labels) / parts).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            for new, old in zip((model[0], model[2], model[4]), layers, strict=True):
                moved = [a - b for a, b in zip(new.parameters(), old.parameters(), strict=True)]
                ratios.append(norm(moved) / norm(list(old.parameters())))
    rows = watch.rows()
    assert [row["layer"] for row in rows] == ["0", "2", "4"]
    by_layer = list(zip(*norms, strict=True))
    assert [row["gradient_norm"] for row in rows] == pytest.approx([sum(n) / 4 for n in by_layer], rel=1e-5)
    assert [row["largest_gradient_norm"] for row in rows] == pytest.approx([max(n) for n in by_layer], rel=1e-5)
    weights = [norm(list(model[i].parameters())) for i in (0, 2, 4)]
    assert [row["weight_norm"] for row in rows] == pytest.approx(weights, rel=1e-6)
    assert [row["update_ratio"] for row in rows] == pytest.approx(ratios, rel=1e-4)
    assert [row["dead_share"] for row in rows] == [1 - active.double().mean().item(), None, None]
    assert 3 / 8 <= rows[0]["dead_share"] < 1
    assert [row["saturated_share"] for row in rows] == [None, torch.stack(flat).double().mean().item(), None]
    assert 0 < rows[1]["saturated_share"] < 1
    assert watch.rows() == []  # all sums begin anew


@pytest.mark.slow
def test_the_program_counts_before_clipping_and_with_functions_as_activations(job) -> None:
    words = ("model=lenet5", "clip_norm=1e-3", "accumulate=2", "precision=float64", "debug.gradients=true")
    parts = assemble(job(*words).config)
    hand = assemble(job(*words[:-1]).config).state.model.train()
    (images, labels), (more, others) = (batch for batch, _ in zip(parts.train.epoch(0), range(2), strict=False))
    loss = F.cross_entropy(hand(torch.cat([images, more])), torch.cat([labels, others]))
    expected = {
        name: norm(torch.autograd.grad(loss, layer.parameters(), retain_graph=True))
        for name, layer in hand.named_children()
    }
    parts.population.train()
    train_step(parts.population, [(images, labels), (more, others)])
    rows = parts.state.watch.rows()
    assert {row["layer"]: row["gradient_norm"] for row in rows} == pytest.approx(expected, rel=1e-9)
    judged = {row["layer"]: (row["dead_share"] is not None, row["saturated_share"] is not None) for row in rows}
    relu, tanh, nothing = (True, False), (False, True), (False, False)
    assert judged == {"conv1": relu, "conv2": relu, "fc1": tanh, "fc2": tanh, "fc3": nothing}


@pytest.mark.slow
def test_dead_units_of_convolutions_are_channels_and_validation_does_not_count() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(4 * 36, 2))
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([-100.0, 100.0, -100.0, -100.0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    watch = Watch(model, optimizer, UNSCALED)
    images = torch.rand(3, 1, 8, 8)
    model(images).sum().backward()
    optimizer.step()
    with torch.inference_mode():
        model.eval()(1e6 * images)  # here every channel would live
    assert [row["dead_share"] for row in watch.rows()] == [0.75, None]


@pytest.mark.slow
def test_what_is_frozen_has_no_gradient_and_what_is_out_of_order_is_told_as_called() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(4, 2)
            self.hidden = nn.Linear(3, 4).requires_grad_(False)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.output(self.hidden(inputs).relu())

    model = Backwards()
    optimizer = torch.optim.SGD(model.output.parameters(), lr=0.1)
    watch = Watch(model, optimizer, UNSCALED)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    hidden, output = watch.rows()
    assert (hidden["layer"], hidden["gradient_norm"], hidden["update_ratio"]) == ("hidden", None, None)
    assert hidden["weight_norm"] > 0
    assert output["gradient_norm"] > 0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.slow
def test_the_scale_of_the_loss_and_the_steps_it_leaves_out_do_not_count(fused: bool) -> None:
    model = nn.Linear(3, 1, bias=False)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused), GradScaler("cpu", init_scale=1024)
    watch = Watch(model, optimizer, scaler)
    for inputs in (
        torch.tensor([[3.0, 4.0, 0.0]]),
        torch.tensor([[math.inf, 0.0, 0.0]]),
        torch.tensor([[0.0, 0.0, 7.0]]),
    ):
        scaler.scale(model(inputs).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    (row,) = watch.rows()
    assert row["gradient_norm"] == pytest.approx(6)
    assert row["largest_gradient_norm"] == pytest.approx(7)


@pytest.mark.slow
def test_a_forward_pass_that_fails_leaves_nothing_switched_on() -> None:
    class Failing(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            raise ValueError

    model = Failing(2, 2)
    Watch(model, torch.optim.SGD(model.parameters()), UNSCALED)
    with pytest.raises(ValueError):
        model(torch.ones(1, 2))
    assert torch.overrides._get_current_function_mode() is None


@pytest.mark.slow
def test_without_the_option_there_is_no_hook(job) -> None:
    state = assemble(job("model=lenet5").config).state
    assert state.watch is None
    for module in state.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(p._post_accumulate_grad_hooks for p in state.model.parameters())
    assert not state.optimizer._optimizer_step_pre_hooks
    assert not state.optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    "words",
    [
        ["model=ann", "accumulate=2", "ema.decay=0.9", "clip_norm=0.1"],
        ["model=lenet5", "augment=light", "augment.mixup=0.2", "freeze=[conv1.*]"],
        ["model=mnist_classifier", "precision=bfloat16", "optim=sgd"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.slow
def test_training_is_the_same_bit_for_bit(words: list[str], train) -> None:
    runs = [train(*words, f"debug.gradients={on}", "epochs=1", "test=false").folder for on in ("true", "false")]
    watched, plain = (load(run / "checkpoints" / "last.pt")["run"] for run in runs)
    assert watched["watch"] is not None
    assert plain["watch"] is None
    for part in ("model", "average", "optimizer"):
        assert same_tree(watched[part], plain[part]), part


@pytest.mark.slow
def test_a_resumed_run_leaves_the_same_file(train) -> None:
    words = ["model=lenet5", "debug=gradients", "epochs=3", "checkpoint.every=25st", "test=false"]  # 18 steps an epoch
    done = train(*words)
    whole = (done.folder / "gradients.csv").read_bytes()
    assert len(rows_of(done)) == 3 * 5
    for name in ("results.json", "checkpoints/last.pt"):  # as after a crash: step 50, in the third epoch, is left
        (done.folder / name).unlink()
    assert train(f"resume={done.folder}").code == 0
    assert (done.folder / "gradients.csv").read_bytes() == whole


@pytest.mark.slow
def test_it_can_be_switched_on_when_a_run_is_resumed(train) -> None:
    stopped = train("model=ann", "epochs=1", "test=false").folder
    done = train(f"resume={stopped}", "epochs=2", "debug.gradients=true")
    assert done.code == 0, done.err
    rows = gradients.read(stopped / "gradients.csv")
    assert [(row["epoch"], row["layer"]) for row in rows] == [(2, "hidden"), (2, "output")]


@pytest.mark.slow
def test_the_file_has_a_row_per_layer_and_validation(train) -> None:
    done = train("model=ann", "debug=gradients", "epochs=2", "validate_every=9st", "baseline=true", "test=false")
    header = (done.folder / "gradients.csv").read_text().splitlines()[0]
    assert header.startswith("epoch,layer,gradient_norm,weight_norm,dead_share,")
    assert [(row["step"], row["layer"]) for row in rows_of(done)] == [
        (step, layer) for step in (9, 18, 27, 36) for layer in ("hidden", "output")
    ]


@pytest.mark.slow
def test_compile_is_refused(train) -> None:
    done = train("debug=gradients", "compile=true")
    assert done.code == 2
    assert "compile=false" in done.err


@pytest.mark.slow
def test_deep_sigmoids_vanish_and_what_is_advised_helps(train) -> None:
    words = ["model=mlp", DEEP, "debug=gradients", "epochs=1", "test=false"]
    (warning,) = warnings_of(train(*words, "model.activation=sigmoid"))
    assert warning.startswith("gradients vanish: in epoch 1")
    assert "in layer 1, the first" in warning
    assert "in layer 17, the last" in warning
    assert "init=kaiming_normal, model.activation=relu, model.norm=batch" in warning
    assert not warnings_of(train(*words, "init=kaiming_normal", "model.activation=relu"))
    assert not warnings_of(train(*words, "model.activation=sigmoid", "model.norm=batch"))


@pytest.mark.slow
def test_large_weights_explode(train) -> None:
    words = ["model=mlp", DEEP, "debug=gradients", "epochs=2", "test=false"]
    (warning,) = warnings_of(train(*words, "init=uniform", "init.bound=1"))
    assert warning.startswith("gradients explode: in epoch 1")
    assert "clip_norm=1, a lower optim.lr than 0.001, or init=kaiming_normal" in warning


@pytest.mark.slow
def test_a_rate_too_large_explodes_although_no_validation_is_reached(train) -> None:
    done = train("data=diabetes", "model=mlp", "optim=sgd", "optim.lr=10", "debug=gradients", "plots=true")
    assert done.results["status"] == "diverged"
    (warning,) = warnings_of(done)
    assert warning.startswith("gradients explode: up to step 3")
    assert "a lower optim.lr than 10" in warning
    pixels(done.folder / "gradients.png")


@pytest.mark.slow
def test_dead_units_are_told(train) -> None:
    Path("dying.py").write_text(
        "from trainer.models.mlp import ANN\n\n\nclass Dying(ANN):\n"
        "    def __init__(self, in_features: int, num_outputs: int):\n"
        "        super().__init__(in_features, num_outputs, hidden=40)\n"
        "        self.hidden.bias.data[:30] = -100\n"
    )
    done = train("model._target_=dying.Dying", "debug=gradients", "epochs=1", "test=false")
    assert done.code == 0, done.err
    assert rows_of(done)[0]["dead_share"] == 0.75
    (warning,) = warnings_of(done)
    assert warning.startswith("dead units: 75% of the units of layer hidden were 0 for every sample in epoch 1.")


@pytest.mark.parametrize("words", [["model=lenet5"], ["model=mlp", "data=iris"], ["model=mlp", "data=diabetes"]])
@pytest.mark.slow
def test_a_healthy_run_says_nothing(words: list[str], train) -> None:
    assert not warnings_of(train(*words, "debug=gradients", "epochs=2", "test=false"))


ADVICE = gradients.Advice(Config(), steps_per_epoch=1)


def diagnosed(first: float, last: float, *, loss: float | None = 1.0, weights: float = 1.0) -> set[str]:
    """Kinds of warnings on two layers' gradient norms."""
    return set(gradients.diagnose(two_layers(1, first, last, weights), [], loss, ADVICE))


def two_layers(epoch: int, first: float, last: float, weights: float = 1.0, dead: float | None = None) -> list[dict]:
    shared = {"epoch": epoch, "step": epoch, "weight_norm": weights, "dead_share": dead, "saturated_share": None}
    return [{**shared, "layer": name, "gradient_norm": n} for name, n in (("a", first), ("b", last))]


def test_thresholds() -> None:
    assert diagnosed(1.1e-3, 1.0) == set()
    assert diagnosed(0.9e-3, 1.0) == {"vanish"}
    assert diagnosed(2e-8, 2e-8) == {"vanish"}
    assert diagnosed(2e-8, 2e-8, loss=0.001) == set()  # all is learned
    assert diagnosed(2e-8, 2e-8, weights=0.1) == set()
    assert diagnosed(999.0, 999.0) == set()
    assert diagnosed(999.0, 1001.0) == {"explode"}
    assert diagnosed(math.nan, 1.0) == {"explode"}
    assert diagnosed(math.inf, math.inf) == {"explode"}
    earlier = [row for epoch in (1, 2, 3) for row in two_layers(epoch, 0.02, 0.5)]
    warnings = gradients.diagnose(two_layers(4, 2.1, 2.1), earlier, 1, ADVICE)
    assert "after 0.02 in earlier epochs" in warnings["explode"]
    assert not gradients.diagnose(two_layers(4, 2.1, 2.1), earlier[:4], 1, ADVICE)
    assert not gradients.diagnose(two_layers(4, 1.9, 2.1), earlier, 1, ADVICE)
    assert not gradients.diagnose(two_layers(1, 1, 1, dead=0.5), [], 1, ADVICE)
    assert "1 other" in gradients.diagnose(two_layers(1, 1, 1, dead=0.51), [], 1, ADVICE)["dead"]


@pytest.mark.parametrize(("layers", "epochs"), [(1, 1), (5, 3), (60, 12)])
@pytest.mark.slow
def test_the_picture(layers: int, epochs: int) -> None:
    rows = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "layer": f"block{i}.$conv_1",
            "gradient_norm": 10.0 ** (-i / 10) / epoch,
            "dead_share": i / 60 if i % 2 else None,
            "saturated_share": None if i % 2 else 0.3,
        }
        for epoch in range(1, epochs + 1)
        for i in range(layers)
    ]
    picture(Path("gradients.png"), rows)
    drawn = pixels(Path("gradients.png"))
    assert max(drawn.shape) < 2000
    assert drawn.shape[0] > 14 * layers  # room for a line of text each


@pytest.mark.parametrize("value", [0.0, pytest.param(math.nan, marks=pytest.mark.slow), None])
def test_the_picture_of_norms_that_no_logarithm_takes(value: float | None) -> None:
    row = {"epoch": 1, "step": 1, "layer": "a", "dead_share": None, "saturated_share": None}
    picture(Path("gradients.png"), [{**row, "gradient_norm": value}, {**row, "layer": "b", "gradient_norm": value}])
    pixels(Path("gradients.png"))


@pytest.mark.slow
def test_the_logged_gradients_are_drawn_at_the_end(train) -> None:
    done = train("model=ann", "debug=gradients", "epochs=1", "test=false", "plots=auto")
    pixels(done.folder / "gradients.png")
