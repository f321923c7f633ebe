"""Pretrained weights: published ones from a filled cache, files of every layout, runs; and every fault."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from helpers.components import assemble, build_model, load_weights, preprocessing_of, resolved
from helpers.datasets import random_images
from helpers.trees import same_tree
from trainer.components import pretrained
from trainer.components.assemble import Components
from trainer.components.data import DataReader
from trainer.components.preprocessing import describe_inputs
from trainer.components.pretrained import published_file
from trainer.components.state_dicts import best_match
from trainer.config.compose import Composer
from trainer.config.schema import Config
from trainer.errors import UserError
from trainer.models.lenet import LeNet5
from trainer.models.mlp import ANN

LENET = ["model=lenet5", "batch_size=32", "debug.batches=4", "epochs=1", "test=false"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Path:
    """The folder in which torch looks; what is not there cannot be had."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there: as good as offline
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "")
    path = tmp_path / "torch" / "hub" / "checkpoints"
    path.mkdir(parents=True)
    return path


def entry(name: str):
    """Return torchvision's entry of a model's newest weights."""
    return torchvision.models.get_model_weights(name).DEFAULT


def published(name: str) -> dict[str, Tensor]:
    """Weights as torchvision's file has them, but random; the names of densenet's are older than the layers'."""
    torch.manual_seed(1)
    state = torchvision.models.get_model(name, num_classes=1000).state_dict()
    if name.startswith("densenet"):
        old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): v for key, v in state.items()}
        assert old.keys() != state.keys()
        return {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}  # newer too
    return state


def put(path: Path, state: dict, *, legacy: bool = False) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


# Published weights


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "googlenet"])
@pytest.mark.slow
def test_published_weights_are_torchvisions(name: str, hub: Path, job) -> None:
    given = published(name)
    path = put(hub / entry(name).url.rpartition("/")[2], given, legacy=name == "mobilenet_v3_small")
    oracle = torchvision.models.get_model(name, weights="DEFAULT").eval()  # from the same file, by its own way
    expected, inputs = oracle.state_dict(), torch.randn(2, 3, 64, 64)
    for classes, weights, where in ((1000, "default", f"torchvision's {entry(name)}"), (5, path, path)):
        words = ["model=torchvision", f"model.name={name}", "model.image_size=64", f"model.weights={weights}"]
        config = job(*words).config
        model = build_model(config, random_images((3, 8, 8), classes)).eval()
        first, *notes = load_weights(model, config)
        own = model.state_dict()
        new = {key for key in own if "aux" not in key and not torch.equal(own[key], expected.get(key, own[key] + 1))}
        assert not any("not used" in note for note in notes)
        shape_notes = [note for note in notes if "different in shape" in note]
        if classes == 1000:
            assert torch.equal(model(inputs), oracle(inputs))
            counted = len(given) if name == "densenet121" else len(own)
            assert first == f"weights: {len(given)} of {counted} tensors from {where}"
            assert not new
            assert not shape_notes
        else:
            assert new == {f"{model.head_path}.{part}" for part in ("weight", "bias")}
            for key in new:
                shapes = ["x".join(map(str, state[key].shape)) for state in (expected, own)]
                assert f"{key} {shapes[0]} there, {shapes[1]} here" in shape_notes[0]


SIZES = [(224, 224), (300, 240), (200, 500), (100, 90)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.slow
def test_published_weights_bring_their_preprocessing(size: tuple[int, int], hub: Path, job) -> None:
    put(hub / entry("mobilenet_v3_small").url.rpartition("/")[2], published("mobilenet_v3_small"))
    rng = np.random.default_rng(0)
    for i in range(8):
        Path(f"photos/{i % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(f"photos/{i % 2}/{i}.png")
    parts = assemble(job("data=image_folder", "data.root=photos", "model=mobilenet_v3_small").config)
    preset = entry("mobilenet_v3_small").transforms()
    expected = [preset(Image.open(path)) for path in Path("photos").rglob("*.png")]
    (batch,) = (inputs for inputs, _ in parts.valid.epoch(0))
    for image in batch:
        assert min((image - other).abs().max() for other in expected) < 1e-2


@pytest.mark.slow
def test_weights_that_cannot_be_had_are_one_sentence(hub: Path, train) -> None:
    done = train("model=resnet18")
    assert done.code == 2
    (problem,) = done.err.splitlines()
    for part in (entry("resnet18").url.rpartition("/")[2], str(hub), "model.weights=PATH", "model.weights=none"):
        assert part in problem
    assert done.folder is None


@pytest.mark.slow
def test_a_missing_download_is_said_before_data_is_read(hub: Path, train, monkeypatch) -> None:
    monkeypatch.setattr(DataReader, "read", None)  # would raise
    words = ["model=resnet18"], ["model=timm", "model.name=resnet10t", "data=digits"]
    for each in words[: 1 + (find_spec("timm") is not None)]:
        done = train(*each)
        assert done.code == 2
        (problem,) = done.err.splitlines()  # no library prints its attempts
        assert "could not be downloaded" in problem
        assert "model.weights=none" in problem


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped"])
@pytest.mark.slow
def test_damaged_weights_in_the_cache_are_one_sentence(damage: str, hub: Path, train) -> None:
    path = put(hub / entry("mobilenet_v3_small").url.rpartition("/")[2], published("mobilenet_v3_small"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    cut = data[: len(data) // 2]
    path.write_bytes({"empty": b"", "text": b"not found", "cut": cut, "flipped": data}[damage])
    done = train("model=mobilenet_v3_small", "max_steps=1", "debug.batches=1", "batch_size=4")
    assert done.code == 2
    (problem,) = done.err.splitlines()
    assert str(path) in problem
    assert "is not in" not in problem


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=resnet18", "model.weights=IMAGENET1K_V9"], "There is: IMAGENET1K_V1, default, none."),
        (["model=resnet50", "model.weights=IMAGENET1K_v2"], "Did you mean IMAGENET1K_V2?"),
        (["model=torchvision", "model.name=resnet19"], "torchvision has no classifier resnet19"),
        (["model=torchvision", "model.name=fasterrcnn_resnet50_fpn"], "no classifier fasterrcnn_resnet50_fpn"),
        (["model=lenet5", "model.weights=default"], "only torchvision's models have published ones"),
        (["model=vit_b_16", "model.weights=none", "model.image_size=30"], "patch size"),
        (["model=timm", "model.name=resnet10t.c3_in2k"], "nearest are resnet10t.c3_in1k"),
        (["model=timm", "model.name=resnet10", "model.weights=none"], "timm has no classifier resnet10"),
    ],
)
@pytest.mark.slow
def test_a_model_or_weights_that_do_not_exist_are_refused(words: list[str], sentence: str, train) -> None:
    if "model=timm" in words:
        pytest.importorskip("timm")
    done = train(*words)
    assert done.code == 2
    assert sentence in done.err


# Files


def wrapped(state: dict, *prefixes: str) -> dict:
    return {"".join(prefixes) + key: value for key, value in state.items()}


LAYOUTS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "arch": "lenet"},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}},
    "DataParallel": lambda state: wrapped(state, "module."),
    "compiled": lambda state: {"model_state_dict": wrapped(state, "_orig_mod.")},
    "AveragedModel": lambda state: {"n_averaged": torch.tensor(3), **wrapped(state, "module.")},
    "AveragedModel of DataParallel": lambda state: (
        {"n_averaged": torch.tensor(3)} | wrapped(state, "module.", "module.")
    ),
    "both": lambda state: wrapped(state, "_orig_mod.", "module."),
    "both, the other way round": lambda state: wrapped(state, "module.", "_orig_mod."),
    "Lightning": lambda state: {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": wrapped(state, "model.") | {"criterion.weight": torch.ones(10), "metric.total": torch.zeros(())},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    },
    "averaged and raw": lambda state: {
        "model": {name: value + 1 for name, value in state.items()},
        "model_ema": {"n_averaged": torch.tensor(3), **wrapped(state, "module.")},
    },
    "averages of NeMo": lambda state: {"ema_state_dict": state, "state_dict": dict.fromkeys(state, torch.ones(1))},
    "a backbone": lambda state: {"state_dict": wrapped(state, "encoder.", "backbone.") | {"bias": torch.ones(10)}},
    "weights deeper": lambda state: {"trainer": {"net": {"params": state}}},
}


@pytest.fixture(scope="module")
def config() -> Config:
    """Return the configuration of a run that starts from weights.pt."""
    composer = Composer()
    return composer.job(composer.read(["model=lenet5", "model.weights=weights.pt"], sweep=False)[0]).config


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_any_layout_is_loaded(layout: str, legacy: bool, config: Config) -> None:
    state = LeNet5(num_outputs=10).state_dict()
    put(Path("weights.pt"), LAYOUTS[layout](state), legacy=legacy)
    model = build_model(config, random_images((1, 8, 8)))
    assert not same_tree(model.state_dict(), state)
    assert load_weights(model, config)[0].startswith("weights: 10 of 10 tensors from weights.pt")
    assert same_tree(dict(model.state_dict()), dict(state))


@pytest.mark.slow
def test_a_run_from_wrapped_weights_is_that_from_plain_ones(train) -> None:
    torch.manual_seed(5)
    state = LeNet5(num_outputs=10).state_dict()
    histories = []
    for layout in ("plain", "Lightning"):
        put(Path("weights.pt"), LAYOUTS[layout](state))
        done = train(*LENET, "model.weights=weights.pt")
        assert done.code == 0, done.err
        with (done.folder / "metrics.csv").open() as file:
            histories.append([{k: row[k] for k in row if "loss" in k} for row in csv.DictReader(file)])
    assert histories[0] == histories[1] != []


class Settings(dict):
    """Stands for the classes of Lightning's hyperparameters."""


def test_objects_of_other_classes_are_passed_over(config: Config, monkeypatch) -> None:
    state = LeNet5(num_outputs=10).state_dict()
    settings = Settings(lr=0.1, path=Path("data"), canary=slice(Canary, 2), values=np.arange(3), one=np.float64(2))
    put(Path("weights.pt"), {"hyper_parameters": settings, "state_dict": wrapped(state, "net.")})
    model = build_model(config, random_images((1, 8, 8)))
    assert load_weights(model, config) == [
        "weights: 10 of 10 tensors from weights.pt (under state_dict, without the prefix net.)"
    ]
    assert same_tree(dict(model.state_dict()), dict(state))
    assert not Path("canary").exists()


def test_a_whole_model_is_read_without_its_class(config: Config) -> None:
    whole = nn.Module()
    whole.net = LeNet5(num_outputs=10)
    whole.register_buffer("scale", torch.ones(2), persistent=False)
    torch.save(whole, "weights.pt")
    model = build_model(config, random_images((1, 8, 8)))
    assert load_weights(model, config)[0].startswith("weights: 10 of 10 tensors")
    assert same_tree(dict(model.state_dict()), dict(whole.net.state_dict()))


def test_a_model_that_holds_the_files_model_gets_its_names() -> None:
    model = nn.Module()
    model.backbone = LeNet5(num_outputs=10)
    plain = LeNet5(num_outputs=10).state_dict()
    match = best_match(wrapped(plain, "module."), model.state_dict())
    assert (match.removed, match.added, len(match.fitting)) == ("module.", "backbone.", 10)
    assert same_tree({f"backbone.{name}": value for name, value in plain.items()}, match.tensors)


def test_names_that_fit_by_chance_are_not_taken() -> None:
    source = {f"layer{i}.{j}.weight": torch.ones(3) for i in range(5) for j in range(2)} | {
        "other.7.bias": torch.ones(2)
    }
    assert not best_match(source, {"bias": torch.zeros(2), **{f"w{i}": torch.ones(1) for i in range(9)}}).fitting


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_safetensors(dtype: torch.dtype, config: Config) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = {name: value.to(dtype) for name, value in LeNet5(num_outputs=10).state_dict().items()}
    safetensors.save_file(state, "weights.pt")
    model = build_model(config, random_images((1, 8, 8)))
    load_weights(model, config)
    assert same_tree(dict(model.state_dict()), {name: value.float() for name, value in state.items()})


@pytest.mark.slow
def test_a_folder_of_the_hub_brings_weights_and_preprocessing(tmp_path: Path, job) -> None:
    """As in the hub's own cache, the files are links. The oracle is timm's own transform."""
    timm, safetensors = pytest.importorskip("timm"), pytest.importorskip("safetensors.torch")
    torch.manual_seed(3)
    plain = timm.create_model("resnet10t", num_classes=10)
    folder, blob = tmp_path / "snapshot", tmp_path / "blob"
    folder.mkdir()
    safetensors.save_file(plain.state_dict(), blob)
    (folder / "model.safetensors").symlink_to(blob)
    preset = {"input_size": [3, 160, 160], "crop_pct": 0.9, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": preset}))
    config = job("model=timm", "model.name=resnet10t", f"model.weights={folder}", "data=digits").config
    expected = preprocessing_of(config)
    resize, crop, *_, normalise = timm.data.create_transform(**preset).transforms
    assert (expected.size, expected.resize) == (crop.size[0], resize.size)
    assert torch.allclose(torch.tensor(expected.mean) / 255, normalise.mean)
    model = build_model(config, random_images((3, 8, 8)))
    load_weights(model, config)
    assert same_tree(dict(model.state_dict()), dict(plain.state_dict()))
    for text, sentence in (("{", "it is not JSON"), ('{"pretrained_cfg": {"mean": 3}}', "pretrained_cfg is invalid")):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match=sentence):
            preprocessing_of(config)


@pytest.mark.slow
def test_what_does_not_fit_is_told_by_name_and_shape(train) -> None:
    state = LeNet5(num_outputs=7).state_dict()
    del state["conv1.bias"]
    put(Path("weights.pt"), state | {"extra.scale": torch.ones(3)})
    done = train(*LENET, "model.weights=weights.pt")
    assert done.code == 0, done.err
    for sentence in (
        "weights: 7 of 10 tensors from weights.pt",
        "fc3.weight 7x84 there, 10x84 here, fc3.bias 7 there, 10 here",
        "not in the file, so initialised anew: conv1.bias",
        "in the file, but not used: extra.scale",
    ):
        assert sentence in " ".join(done.out.split()), sentence


class Canary:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("canary"),)


def flip_a_bit(path: Path) -> None:
    torch.save(LeNet5().state_dict(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


MORE = "it holds more than tensors and plain values ("
FAULTS = {
    "absent": (lambda path: None, "there is no such file"),
    "empty": (lambda path: path.write_bytes(b""), "it is not a checkpoint"),
    "text": (lambda path: path.write_text("weights"), "it is not a checkpoint"),
    "code": (lambda path: torch.save({"model": Canary()}, path), MORE),
    "code before torch 1.6": (lambda path: put(path, {"model": Canary()}, legacy=True), MORE),
    "whole model": (lambda path: torch.save(ANN(), path), "none of its 4 tensors fits this model"),
    "shards": (lambda path: (path.mkdir(), (path / "model.safetensors.index.json").touch()), "among several files"),
    "list": (lambda path: torch.save([torch.ones(2)], path), "expected a state dict, found list"),
    "no tensors": (lambda path: torch.save({"epoch": 1}, path), "it contains no tensors"),
    "other model": (lambda path: torch.save(ANN().state_dict(), path), "none of its 4 tensors fits this model"),
    "folder": (lambda path: path.mkdir(), "not a run folder"),
    "flipped bit": (flip_a_bit, "the checksum of"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_a_file_that_is_no_use_is_one_sentence(fault: str, config: Config) -> None:
    FAULTS[fault][0](Path("weights.pt"))
    with pytest.raises(UserError) as caught:
        load_weights(build_model(config, random_images((1, 8, 8))), config)
    (problem,) = caught.value.problems
    assert "model.weights=weights.pt" in str(problem)
    assert FAULTS[fault][1] in str(problem)
    assert "\n" not in str(problem)
    assert not Path("canary").exists()


@pytest.mark.slow
def test_nothing_is_left_behind_where_weights_are_no_use(train) -> None:
    FAULTS["code"][0](Path("weights.pt"))
    done = train(*LENET, "model.weights=weights.pt")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert done.folder is None
    assert not Path("canary").exists()


@pytest.mark.slow
def test_a_count_of_batches_is_not_missed(job) -> None:
    words = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "model.weights=weights.pt"]
    config = job(*words).config
    put(Path("weights.pt"), {"nothing": torch.zeros(1)})
    model = build_model(config, random_images((3, 32, 32)))
    state = model.state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    put(Path("weights.pt"), old)
    assert load_weights(model, config) == [f"weights: {len(old)} of {len(old)} tensors from weights.pt"]


@pytest.mark.parametrize("name", ["inception_v3", "resnet18"])
@pytest.mark.slow
def test_a_published_file_elsewhere_brings_its_preprocessing(name: str, job) -> None:
    entry = torchvision.models.get_model_weights(name).DEFAULT
    path = Path(entry.url.rpartition("/")[2]).resolve()
    put(path, {"nothing": torch.zeros(1)})
    wanted = preprocessing_of(job(f"model={name}", f"model.weights={path}").config)
    assert wanted == preprocessing_of(job(f"model={name}", "model.weights=default").config)
    assert wanted.published  # what Inception does to its inputs follows from it
    other = path.rename("other.pth")
    assert preprocessing_of(job(f"model={name}", f"model.weights={other}").config) == wanted
    timm = ["model=timm", "model.name=resnet10t"]
    unknown = preprocessing_of(job(*timm, f"model.weights={other.resolve()}").config)
    assert unknown == preprocessing_of(job(*timm, "model.weights=default").config)


def test_a_published_file_is_known_by_its_digest(monkeypatch, job) -> None:
    """Of ResNet-50, there are two files with different presets."""
    target = resolved(job("model=resnet50").config, "model").model
    first, _ = torchvision.models.get_model_weights("resnet50")
    path = put(Path("mine.pth"), {"nothing": torch.zeros(1)})
    assert published_file(target, path) is None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "_digits", lambda name: digest[:8] if name in first.url else "none")
    assert published_file(target, path) == first


@pytest.mark.slow
def test_a_checkpoint_with_invalid_preprocessing_is_refused(job) -> None:
    content = {"model": {"nothing": torch.zeros(1)}, "epoch": 1, "step": 1, "row": {}, "config": "", "fingerprint": ""}
    task = {"task": "multiclass", "classes": ["a", "b"], "output": "logits"}
    put(Path("best.pt"), content | task | {"prepare": {"mean": 3}})
    with pytest.raises(UserError, match=r"best\.pt: not a complete checkpoint of this program"):
        preprocessing_of(job("model=resnet18", "model.weights=best.pt").config)


@pytest.mark.parametrize("words", [["model=resnet18"], ["model=vit_b_16"]])
@pytest.mark.slow
def test_a_size_that_is_said_is_kept(words: list[str], job) -> None:
    square = job(*words, "model.weights=none", "+model.image_size=[64,64]").config
    assert preprocessing_of(square).size == 64


@pytest.mark.slow
def test_images_that_are_not_square(job) -> None:
    words = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "model.weights=none", "+model.image_size=[32,48]"]
    parts = assemble(job(*words, "data=digits").config)
    assert parts.data.prepare.output_shape == (3, 32, 48)
    assert next(iter(parts.train.epoch(1)))[0].shape[2:] == (32, 48)


@pytest.mark.slow
def test_timm_by_tag_and_by_size(job) -> None:
    timm = pytest.importorskip("timm")
    words = ["model=timm", "model.weights=none", "data=digits"]
    tagged = assemble(job(*words, "model.name=resnet10t.c3_in1k").config).state.model
    plain = assemble(job(*words, "model.name=resnet10t").config).state.model
    assert same_tree(tagged.state_dict(), plain.state_dict())
    config = job(*words, "model.name=vit_tiny_patch16_224", "+model.image_size=[32,64]").config
    parts = assemble(config)
    assert parts.data.prepare.output_shape == (3, 32, 64)
    assert parts.state.model.patch_embed.img_size == (32, 64)
    assert preprocessing_of(job(*words, "model.name=vit_tiny_patch16_224").config).size == 224
    assert preprocessing_of(job(*words, "model.name=resnet10t").config).size is None
    known = timm.get_pretrained_cfg("resnet10t.c3_in1k")
    wanted = preprocessing_of(job("model=timm", "model.name=resnet10t.c3_in1k").config)
    assert wanted.size == known.input_size[1]


def prepared(job, *words: str) -> tuple[Tensor, Components]:
    parts = assemble(job("model=ann", *words).config)
    return next(iter(parts.valid.epoch(0)))[0], parts


def test_a_typed_normalisation_is_torchvisions(job) -> None:
    own, parts = prepared(job, "data=digits")
    raw = own * parts.data.prepare.std[0] + parts.data.prepare.mean[0]
    ours, parts = prepared(job, "data=digits", "data.mean=0.25", "data.std=[0.5]")
    assert torch.allclose(ours, normalize(raw / 255, [0.25], [0.5]), atol=1e-5)
    assert "mean 0.25 (typed), std 0.5 (typed)" in describe_inputs(parts.data, parts.config.data, parts.preprocessing)


def test_a_typed_normalisation_takes_precedence_over_the_weights(tmp_path: Path, job) -> None:
    path = put(tmp_path / "weights.pt", torchvision.models.get_model("shufflenet_v2_x0_5", num_classes=10).state_dict())
    words = ["data=digits", "model=torchvision", "model.name=shufflenet_v2_x0_5", "model.image_size=32"]
    parts = assemble(job(*words, f"model.weights={path}", "data.std=0.5").config)
    text = describe_inputs(parts.data, parts.config.data, parts.preprocessing)
    assert text == "3x32x32, mean 0.485 0.456 0.406 (of the weights), std 0.5 (typed)"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data=digits", "data.mean=[0.1,0.2]"], "expected 1 or 1 numbers"),
        (["data=digits", "data.mean=128"], "expected numbers from 0 to 1"),
        (["data=iris", "model=mlp", "data.std=0.5"], "the data has no images"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused(words: list[str], sentence: str, job) -> None:
    with pytest.raises(UserError, match=sentence):
        assemble(job("model=ann", *words).config)
