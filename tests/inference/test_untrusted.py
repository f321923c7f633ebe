"""Checkpoints and run folders made by others: no verb runs code from them, reads secrets or writes elsewhere."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import trainer
from helpers.processes import processor_limit
from helpers.words import table_words
from trainer.errors import UserError
from trainer.training import checkpoint
from trainer.training.archive import COMMENT_SIZE, SEAL, SEAL_SIZE, sealed

pytestmark = pytest.mark.slow

DIGITS = ("epochs=3",)
VERBS = {
    "predict": ("x.png", "--out", "out.csv"),
    "evaluate": (),
    "explain": ("x.png",),
    "export": ("--format", "pt2", "--out", "out.pt2"),
}


class Evil:
    """Makes a file when it is unpickled by the usual means."""

    def __reduce__(self):
        return Path.touch, (Path("canary"),)


@pytest.fixture
def content(trained: Callable[..., Path]) -> dict[str, Any]:
    """Return the content of a valid checkpoint."""
    return checkpoint.load(trained(*DIGITS) / "checkpoints" / "best.pt")


@pytest.fixture
def refused(verb) -> Callable[..., None]:
    """Every verb and `trainer.load` refuse this file with one sentence, and nothing has happened."""

    def check(sentence: str, *verbs: str, code: int = 2, run: str = "evil.pt") -> None:
        Path("x.png").write_bytes(b"")
        before = {str(path) for path in Path().rglob("*")}
        for name in verbs or VERBS:
            with processor_limit(10):
                done = verb(name, run, *VERBS[name])
            assert done.code == code, f"{name}: {done.out}{done.err}"
            assert len(done.err.splitlines()) == 1, done.err
            assert re.search(sentence, done.err), f"{name}: {done.err}"
            assert "Traceback" not in done.err
            assert "hunter2" not in done.out + done.err
        if not verbs:
            with pytest.raises(UserError, match=sentence):
                trainer.load(run)
        assert {str(path) for path in Path().rglob("*")} == before
        assert not Path("canary").exists()

    return check


def changed(content: dict[str, Any], **keys: Any) -> None:
    """evil.pt: the good checkpoint with another configuration; keys as `model___target_`."""
    tree = yaml.safe_load(content["config"])
    for path, value in keys.items():
        node = tree
        *parents, last = path.split("__", 1)
        for parent in parents:
            node = node[parent]
        node[last] = value
    save(content | {"config": yaml.safe_dump(tree)})


def save(content: dict[str, Any]) -> None:
    checkpoint.save(Path("evil.pt"), {k: v for k, v in content.items() if k != "format"})


def seal(path: str) -> None:
    """Give a zip file the digest of a checkpoint."""
    with open(path, "r+b") as file:
        file.seek(-COMMENT_SIZE.size, os.SEEK_END)
        file.write(COMMENT_SIZE.pack(SEAL_SIZE))
        file.seek(0)
        digest = hashlib.sha256(file.read()).hexdigest()
        file.write(SEAL + digest.encode())


def test_the_good_one_is_taken(content, verb) -> None:
    """So that what follows is refused for what was changed in it."""
    save(content)
    assert verb("evaluate", "evil.pt").code == 0
    assert trainer.load("evil.pt").classes == tuple("0123456789")


def test_outputs_that_are_no_probabilities(content, refused) -> None:
    save(content | {"output": "log_probabilities"})
    refused("model.output=log_probabilities: the exponentials of the model's outputs", "evaluate")
    with pytest.raises(UserError, match=r"model.output=log_probabilities: the exponentials of the model's outputs"):
        trainer.load("evil.pt").predict(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_a_list_that_stands_for_many(trained: Callable[..., Path], table: Path, refused) -> None:
    """A few hundred kilobytes that would be gigabytes when each column has categories of its own."""
    found = checkpoint.load(trained(*table_words(table)) / "checkpoints" / "best.pt")
    texts = [str(number) for number in range(20_000)]
    column = found["prepare"]["columns"][0] | {"categories": texts, "seen": list(range(20_000))}
    save(found | {"prepare": {"columns": [{**column, "name": str(n)} for n in range(20_000)]}})
    refused("its columns is invalid", "evaluate")
    with pytest.raises(UserError, match="its columns is invalid"):
        trainer.load("evil.pt")


@pytest.mark.filterwarnings("error::UserWarning")
def test_pickles(content, refused) -> None:
    for bait in (content | {"x": Evil()}, Evil(), content | {"model": Evil()}, content | {"config": Evil()}):
        Path("evil.pt").write_bytes(sealed(bait))
        refused(r"evil.pt: it holds more than tensors and plain values \(getattr\), which is never loaded\.$")
        Path("evil.pt").write_bytes(pickle.dumps(bait))
        refused("evil.pt: it is not a checkpoint")
    pickle.loads(Path("evil.pt").read_bytes())
    assert Path("canary").exists()  # so the bait was real


TARGETS = ["os.system", "posix.system", "subprocess.run", "builtins.eval", "builtins.exec", "torch.load", "numpy.load",
           "torch.hub.load", "pickle.loads", "runpy.run_path", "importlib.import_module", "hydra.utils.instantiate",
           "trainer.cli.train", "torch.os.system", "torch.jit.load", "planted.Net", "__main__.Net", "os..system", "",
           "torch.fx.graph_module.reduce_graph_module", "torch.nn.utils.prune.identity", "torch.jit.script",
           "torchvision.models.get_model", "torchvision.models.detection.fcos_resnet50_fpn",
           "torch.testing._internal.common_utils.run_tests", "trainer.models.vision.nn.Linear",
           7, ["torch", "nn"]]  # fmt: skip
MALFORMED = ["os..system", "", 7, ["torch", "nn"]]


@pytest.mark.parametrize("part", ["model", "data", "loss"])
def test_targets_that_run_code(content, refused, part: str) -> None:
    Path("planted.py").write_text("from pathlib import Path\nPath('canary').touch()\nclass Net: pass\n")
    for target in TARGETS:
        if target == "" and part == "loss":
            continue
        arguments = {"command": "touch canary", "f": "evil.pt", "weights_only": False, "source": "local"}
        tree = yaml.safe_load(content["config"])
        tree[part] = {"_target_": target, "root": ".", **arguments}
        save(content | {"config": yaml.safe_dump(tree)})
        malformed = target in MALFORMED
        reason = "expected module.name" if malformed else "a stored configuration names code outside this program"
        refused(rf"{part}\._target_=.*: {reason}", *(VERBS if part == "model" else ("evaluate", "export")))


# A function of torch's that is annotated as giving a Module, and that runs the text it is given.
GADGET = {
    "_target_": "torch.fx.graph_module.reduce_graph_module",
    "body": {"_code": "open('canary', 'w').close()\ndef forward(self, x):\n    return x\n"},
    "import_block": "",
}


def test_code_that_hides_in_an_argument(content, refused) -> None:
    from trainer.components.target import Target
    from trainer.components.targets import resolve

    tree = yaml.safe_load(content["config"])
    save(content | {"config": yaml.safe_dump(tree | {"model": GADGET})})
    refused("names code outside this program")
    arguments = {key: value for key, value in GADGET.items() if key != "_target_"}
    name = GADGET["_target_"]
    target = Target("model", name, resolve(name, "model", trusted=True), arguments)
    with pytest.raises(AttributeError):
        target.build()
    assert Path("canary").exists()  # so the bait was real


def test_code_that_hides_in_an_argument_of_a_run_to_resume(trained, train) -> None:
    run = trained("epochs=1")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"model": GADGET}))
    done = train(f"resume={run}", "epochs=2")
    assert done.code == 2
    assert "names code outside this program" in done.err
    assert not Path("canary").exists()


def test_a_stranger_downloads_nothing(content, refused) -> None:
    tree = yaml.safe_load(content["config"])
    tree["model"] = {"_target_": "torchvision.models.resnet18", "pretrained": True}
    save(content | {"config": yaml.safe_dump(tree)})
    refused("asks for a download")


def test_a_data_set_of_torchvision_is_not_read_for_a_stranger(content, refused) -> None:
    """Some of them unpickle what they find."""
    changed(content, data___target_="torchvision.datasets.LSUN")
    tree = yaml.safe_load(content["config"])
    tree["data"] = {"_target_": "torchvision.datasets.FakeData"}
    save(content | {"config": yaml.safe_dump(tree)})
    refused("names code outside this program. If you trust it, add --trust", "evaluate", "export")


def test_environment_variables(content, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    for key, verbs in (
        ("model__output", VERBS),
        ("model__${oc.env:SECRET}", VERBS),
        ("data__root", ("evaluate", "export")),
        ("precision", VERBS),
        ("device", ("evaluate", "export")),
    ):
        changed(content, **{key: "${oc.env:SECRET}"})
        refused("environment variables", *verbs)
    # Where nothing is asked for, nothing is read.
    changed(content, name="${oc.env:SECRET}")
    assert "hunter2" not in str(trainer.load("evil.pt").checkpoint.tree)


def test_what_is_not_followed_does_nothing(content, verb) -> None:
    """Hydra's callbacks, weights to start from, and parts that an evaluation has no use for."""
    tree = yaml.safe_load(content["config"])
    tree["hydra"] = {"callbacks": {"x": {"_target_": "os.system", "command": "touch canary"}}, "sweeper": {}}
    tree["optim"] = {"_target_": "os.system", "command": "touch canary"}
    tree["schedule"], tree["augment"] = dict(tree["optim"]), dict(tree["optim"])
    tree["model"]["weights"] = "https://example.org/evil.pt"
    save(content | {"config": yaml.safe_dump(tree)})
    assert verb("evaluate", "evil.pt").code == 0
    assert not Path("canary").exists()


def test_yaml_that_grows_or_runs(content, refused) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
    )
    for text, sentence in (
        (bomb, "aliases"),
        ("a: !!python/object/apply:os.system ['touch canary']", "not readable"),
        ("[" * 5000, "not readable"),
        ("- a list", "expected a configuration"),
        ("x" * 2_000_000, "larger than"),
        ("\x00", "not readable"),
        (b"bytes", "its config is invalid"),
        (7, "its config is invalid"),
    ):
        save(content | {"config": text})
        refused(sentence, "evaluate")


def test_zip_bombs(content, refused) -> None:
    save(content)
    shutil.move("evil.pt", "good.pt")
    with zipfile.ZipFile("good.pt") as whole, zipfile.ZipFile("evil.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
        bomb.writestr("archive/data/99", bytes(50_000_000))
    seal("evil.pt")
    refused("compressed")
    # Many entries that all stand for the same bytes.
    with zipfile.ZipFile("evil.pt", "w") as bomb:
        bomb.writestr("archive/data/0", bytes(100_000))
        bomb.filelist += [bomb.filelist[0]] * 5000
    seal("evil.pt")
    refused("larger than the file|overlap")


def test_paths_out_of_the_folder(content, refused, verb) -> None:
    """Neither reads nor writes follow a link out of a run folder."""
    save(content)
    Path("elsewhere").mkdir()
    shutil.move("evil.pt", "elsewhere/good.pt")
    Path("run/checkpoints").mkdir(parents=True)
    os.symlink(Path("elsewhere/good.pt").resolve(), "run/checkpoints/best.pt")
    refused("a symbolic link, which is not followed here", run="run")
    os.unlink("run/checkpoints/best.pt")
    shutil.copy("elsewhere/good.pt", "run/checkpoints/best.pt")
    Path("elsewhere/precious").write_text("precious")
    for name in ("evaluation-1.json", "evaluation-2.png", "calibration.json", "model.pt2"):
        os.symlink(Path("elsewhere/precious").resolve(), f"run/{name}")
    done = verb("predict", "run", "x.png", "--calibrated")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "not readable as a calibration" in done.err
    for name in os.listdir("run"):
        if name.endswith(".json"):
            os.symlink(Path("elsewhere/precious").resolve(), f"run/.{name}.{os.getpid()}.tmp")
    done = verb("evaluate", "run", "--calibrate")
    assert done.code == 0, done.err
    assert not Path("run/calibration.json").is_symlink()
    assert Path("run/evaluation-2.json").is_file()  # the first name was taken, by a link
    assert not Path("run/evaluation-2.png").is_symlink()
    assert verb("export", "run", "--format", "pt2").code == 2
    assert verb("export", "run", "--format", "state_dict", "--out", "run/model.pt2", "--replace").code == 0
    assert Path("elsewhere/precious").read_text() == "precious"


def test_a_stored_cache_or_root_is_not_written_to(content, refused, trained, photos: Path, verb) -> None:
    changed(content, data___target_="trainer.data.sources.torchvision_dataset")
    tree = yaml.safe_load(content["config"])
    tree["data"] |= {"_target_": "trainer.data.sources.torchvision_dataset", "name": "MNIST", "root": "victim"}
    save(content | {"config": yaml.safe_dump(tree)})
    refused("there is no such folder", "evaluate", "export")
    tree["data"] |= {"_target_": "trainer.data.images.folder.image_folder", "root": str(photos), "cache": "victim"}
    del tree["data"]["name"]
    save(content | {"config": yaml.safe_dump(tree)})
    assert verb("evaluate", "evil.pt").code == 2
    assert not Path("victim").exists()


def test_models_of_terabytes_cost_nothing(content, refused, trained) -> None:
    tree = yaml.safe_load(content["config"])
    for hidden in ([10**9], [10**6, 10**6, 10**6]):
        tree["model"] = {"_target_": "trainer.models.mlp.MLP", "hidden": hidden}
        save(content | {"config": yaml.safe_dump(tree)})
        refused("its weights are not those of the model")
    name = next(iter(content["model"]))
    weights = content["model"] | {name: torch.zeros(1).expand(10**6, 10**6)}
    save(content | {"model": weights})
    refused(f"its weight {name} is larger than its stored data")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": ["a"] * 10}, "its classes is invalid"),
        ({"classes": "0123456789"}, "classes"),
        ({"classes": [f"\x1b]0;{n}\x07" for n in range(10)]}, "classes"),
        ({"classes": [str(n) for n in range(10_001)]}, "classes"),
        ({"classes": None}, "not a complete checkpoint"),
        ({"task": "regression"}, "target_scale|not a complete"),
        ({"output": "anything"}, "its output"),
        ({"prepare": None}, "its prepare"),
        ({"prepare": {"shape": [1, 8, 8], "mean": [0], "std": [0], "size": None}}, "prepare.std"),
        ({"prepare": {"shape": [1, 8, 8], "mean": [0], "std": [1], "size": [10**6, 10**6]}}, "prepare.shape"),
        ({"prepare": {"shape": [1, 8, -8], "mean": [0], "std": [1], "size": None}}, "prepare.shape"),
        ({"prepare": {"columns": []}}, "columns"),
        ({"prepare": {"columns": [{"name": "a", "categories": ["x"], "seen": [5]}]}}, "columns"),
        ({"prepare": {"columns": [{"name": "a", "evil": 1, "categories": [], "seen": []}]}}, "not a complete"),
        ({"preprocessing": {"size": 10**9}}, "preprocessing"),
        ({"preprocessing": {"evil": 1}}, "not a complete"),
        ({"num_outputs": 10**12}, "num_outputs"),
        ({"num_outputs": 7}, "num_outputs"),
        ({"dtype": "object"}, "dtype"),
        ({"class_weights": [1.0]}, "class_weights"),
        ({"model": [1, 2]}, "not a complete checkpoint|weights"),
        ({"model": {}}, "weights are not those"),
        ({"model": {"x": "text"}}, "its weight x is not a plain tensor"),
        ({"model": {"x": torch.tensor([float("nan")])}}, "its weight x is not finite"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_file_says_is_judged(content, refused, change: dict[str, Any], sentence: str) -> None:
    save(content | change)
    refused(sentence, "predict")


def test_keys_that_are_not_there(content, refused) -> None:
    for name in (
        "config", "task", "classes", "output", "prepare", "preprocessing", "fingerprint", "num_outputs",
        "dtype", "class_weights", "model",
    ):  # fmt: skip
        save({key: value for key, value in content.items() if key != name})
        refused("not a complete checkpoint of this program")


def test_runs_that_are_not_there_or_not_whole(content, refused) -> None:
    refused("nowhere: there is no such run", run="nowhere")
    Path("empty").mkdir()
    refused("not a run folder", run="empty")
    Path("begun").mkdir()
    Path("begun/config.yaml").write_text("epochs: 3\n")
    sentence = "no checkpoints/best.pt yet: it has not been validated so far. To continue it: train resume=begun"
    refused(sentence, run="begun")
    Path("sweep/job/checkpoints").mkdir(parents=True)
    Path("sweep/sweep.jsonl").write_text("")
    Path("sweep/job/checkpoints/best.pt").write_text("")
    refused("a sweep, not a run; name one of its runs: job", run="sweep")
    Path("evil.pt").write_bytes(sealed({**content, "format": 9}))
    refused("its format 9 is newer than 1, the newest that this version reads")
    Path("evil.pt").write_bytes(sealed({"state_dict": {}}))
    refused("not a checkpoint of this program")
    torch.save(content, "evil.pt")
    refused("not a checkpoint of this program: it does not end with a checksum")
    save(content)
    data = bytearray(Path("evil.pt").read_bytes())
    Path("evil.pt").write_bytes(data[: len(data) // 2])
    refused("it is truncated, or not what was written")
    data[data.index(next(iter(content["model"].values())).numpy().tobytes()) + 5] ^= 1
    Path("evil.pt").write_bytes(data)
    refused("checksum")


def test_nothing_is_imported_from_the_current_folder(trained, train_process) -> None:
    """Not even in place of a library that is not installed; the folder may have come with the checkpoint."""
    shutil.copy(trained(*DIGITS) / "checkpoints" / "best.pt", "best.pt")
    bait = "from pathlib import Path\nPath('canary').touch()\nraise ImportError\n"
    for name in ("timm", "torch", "dill", "opt_einsum", "pandas", "lmdb", "tensorboard", "sitecustomize", "onnx"):
        Path(f"{name}.py").write_text(bait)
    done = train_process("predict", "best.pt", "x.png")
    assert (done.returncode, done.stderr.count("\n")) == (1, 2), done.stderr
    assert not Path("canary").exists()


def test_a_table_of_a_stranger(trained, refused, table: Path) -> None:
    """Its path is somebody else's; it is only read as a table."""
    run = trained(*table_words(table))
    tree = yaml.safe_load((found := checkpoint.load(run / "checkpoints" / "best.pt"))["config"])
    tree["data"]["path"] = "/etc/hostname"
    save(found | {"config": yaml.safe_dump(tree)})
    refused("expected a header|no such column|no such file", "evaluate", "export")


def test_timm_reads_no_file_for_a_stranger(content, refused) -> None:
    pytest.importorskip("timm")
    torch.save({"state_dict": Evil()}, "weights.pth")
    tree = yaml.safe_load(content["config"])
    model = {"name": "resnet10t", "checkpoint_path": "weights.pth"}
    tree["model"] = {"_target_": "trainer.models.vision.timm_model", **model}
    save(content | {"config": yaml.safe_dump(tree)})
    refused("checkpoint_path: weights from a file are loaded by model.weights")
