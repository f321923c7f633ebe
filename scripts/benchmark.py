"""Benchmarks of the promised ratios, each measured side by side in one run: `python scripts/benchmark.py --help`."""

from __future__ import annotations

import argparse
import cProfile
import gc
import importlib.util
import json
import os
import platform
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from benchmark_stack import stack
from benchmark_sweep import features, sweep
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.data.samples import Arrays
from trainer.data.source import Source

if TYPE_CHECKING:
    from trainer.config.job import Job
    from trainer.run.journal import Journal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=[*BENCHMARKS, *GROUPS])
    parser.add_argument(
        "--data",
        default=os.environ.get("TRAINER_DATA", "data"),
        type=os.path.abspath,
        help="folder that holds MNIST/",
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stack-repeats", type=int, default=1, help="of stacked sweeps, each a few minutes")
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    for name in dict.fromkeys(name for what in arguments.what for name in GROUPS.get(what, [what])):
        print(f"\n{name}: {BENCHMARKS[name].__doc__}")
        BENCHMARKS[name](arguments)


def alternate(candidates: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each candidate, timed in turn so that changes of the machine's speed affect all."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            gc.collect()
            times[name].append(run())
    return times


def show(times: dict[str, list[float]], base: str, digits: int = 3) -> None:
    """Print a row for each candidate; the ratio is the median of the ratios of one round."""
    print(f"{'':<34}{'minimum':>10}{'median':>10}{'ratio':>8}")
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times[base], strict=True))
        least, median = (f"{value:>9.{digits}f}s" for value in (min(seconds), statistics.median(seconds)))
        print(f"{name:<34}{least}{median}{ratio:>8.3f}")


class TextbookLeNet(nn.Module):
    """LeNet-5 as in textbooks, with ReLU before pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


def mnist(arguments: argparse.Namespace) -> None:
    """Measure an epoch of LeNet-5 on MNIST (batch 64, AdamW), everything included, against a bare loop (1.00)."""
    from trainer.data.sources import torchvision_dataset

    source = torchvision_dataset(arguments.data, "MNIST").splits["train"]
    images = F.pad((source.take(torch.arange(60_000)).float() / 255 - 0.1307) / 0.3081, (2, 2, 2, 2), value=-0.4242)
    images = images.contiguous(memory_format=torch.channels_last)
    order = torch.randperm(60_000)
    train_x, train_y = images[order[:48_000]], source.targets[order[:48_000]]
    valid_x, valid_y = images[order[48_000:]], source.targets[order[48_000:]]

    def bare() -> Callable[[], float]:
        model = TextbookLeNet().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def epoch() -> float:
            begin = time.perf_counter()
            model.train()
            for batch in torch.randperm(len(train_x)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(train_x[batch]), train_y[batch]).backward()
                optimizer.step()
            model.eval()
            with torch.inference_mode():
                right = sum(
                    (model(x).argmax(1) == y).sum() for x, y in zip(valid_x.split(256), valid_y.split(256), strict=True)
                )
            assert float(right) > 0.5 * len(valid_y)
            return time.perf_counter() - begin

        return epoch

    words = ["data=mnist", f"data.root={arguments.data}", "model=lenet5", "optim=adamw"]
    bare_epoch = bare()
    bare_epoch()
    show(beside_program(words, {"bare loop": bare_epoch}, arguments.repeats), "bare loop")


def tables(arguments: argparse.Namespace) -> None:
    """Measure the share of a bare loop in the time of 200 epochs on the 569 rows of breast_cancer; promised: 0.6."""
    from trainer.components.assemble import assemble

    words = ["data=breast_cancer", "model=mlp", "model.hidden=[16]", "batch_size=32", "epochs=200", "patience=null"]
    components = assemble(compose(words).config, trusted=True)
    (train_x, train_y), (valid_x, valid_y) = (
        (components.data.prepare(split.samples.take(split.indices)), split.targets.float())
        for split in (components.data.splits["train"], components.data.splits["valid"])
    )

    def bare() -> float:
        model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        begin = time.perf_counter()
        for _ in range(200):
            model.train()
            for batch in torch.randperm(len(train_x)).split(32):
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(model(train_x[batch])[:, 0], train_y[batch]).backward()
                optimizer.step()
            model.eval()
            with torch.inference_mode():
                outputs = model(valid_x)[:, 0]
                F.binary_cross_entropy_with_logits(outputs, valid_y).item()
                ((outputs > 0) == (valid_y > 0.5)).sum().item()
        return time.perf_counter() - begin

    def program() -> float:
        with running(words) as run:
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin

    bare(), program()
    times = alternate({"trainer": program, "bare loop": bare}, arguments.repeats)
    show(times, "trainer")
    with running(words) as run:
        profile = cProfile.Profile()
        profile.runcall(run)
    print("where the program's own time goes (with the profiler's own overhead):")
    _show_own_time(profile)


def _show_own_time(profile: cProfile.Profile) -> None:
    """Return the cumulative seconds of this program's functions that are called within an epoch."""
    rows = []
    for (file, _, name), (_, calls, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if f"{os.sep}trainer{os.sep}" in file and calls >= 100:
            rows.append((cumulative, calls, f"{Path(file).stem}.{name}"))
    for seconds, calls, name in sorted(rows, reverse=True)[:14]:
        print(f"  {seconds:>7.3f}s {calls:>7} calls  {name}")


def compose(words: list[str]) -> Job:
    """Compose the job of these overrides."""
    from trainer.config.compose import Composer

    composer = Composer()
    return composer.job(composer.read(words, sweep=False)[0])


@contextmanager
def running(words: list[str], journal: type[Journal] | None = None) -> Iterator[Callable[[], object]]:
    """Yield the program's own loop as a function; its files and checkpoints are in a temporary folder."""
    from trainer.components.assemble import assemble
    from trainer.config.stored import StoredConfig
    from trainer.records.folder import RunFolder, new_folder
    from trainer.report.console import Console
    from trainer.run.journal import Journal
    from trainer.signals import Signals
    from trainer.training.interfaces import TrainingData
    from trainer.training.loop import fit
    from trainer.training.saver import Saver

    job = compose(words)
    components = assemble(job.config, trusted=True)
    with tempfile.TemporaryDirectory() as place, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        folder = RunFolder(new_folder("benchmark", place))
        folder.start_metrics(components.data.task.columns, [])
        console = Console(folder.path / "train.log", live=False)
        about = {"config": folder.write_config(StoredConfig(job.stored, {}))}
        saver = Saver(folder.checkpoints, job.config.checkpoint.every, about)
        report = (journal or Journal)(console, folder)
        try:
            yield lambda: fit(
                components.population, TrainingData(components.train, components.valid), saver, report, Signals()
            )
        finally:
            console.close()
            folder.close()


def beside_program(words: list[str], others: dict[str, Callable[[], float]], epochs: int) -> dict[str, list[float]]:
    """Trains with the program's own loop, files and checkpoints; after each of its epochs, one of each other.

    An epoch of the program lasts from the end of one report to the end of the next, so that everything is in it.
    """
    from trainer.run.journal import Journal

    times: dict[str, list[float]] = {name: [] for name in (*others, "trainer")}

    class Interleaved(Journal):
        since = time.perf_counter()

        def row(self, row, best) -> None:
            super().row(row, best)
            mine = time.perf_counter() - self.since
            if row.epoch > 1:  # the first one warms up
                times["trainer"].append(mine)
                for name, run in others.items():
                    gc.collect()
                    times[name].append(run())
            self.since = time.perf_counter()

    with running([*words, f"epochs={epochs + 1}", "patience=null"], Interleaved) as run:
        run()
    return times


def stream(arguments: argparse.Namespace) -> None:
    """Measure streamed batches on the device against what their DataLoader alone delivers; promised: 0.9."""
    with tempfile.TemporaryDirectory() as place:
        for size, count in ((224, 600), (32, 5000)):
            _write_photos(Path(place) / str(size), size, count)
            _stream(f"{place}/{size}", size, arguments.repeats)


def _write_photos(root: Path, size: int, count: int, width: int | None = None) -> None:
    """Write JPEG files of smooth noise, with as much detail as photos."""
    generator = torch.Generator().manual_seed(0)
    width = width or size
    for number in range(count):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = torch.rand(1, 3, size // 4, width // 4, generator=generator)
        pixels = F.interpolate(coarse, (size, width), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
        Image.fromarray((pixels * 255).byte().numpy()).save(folder / f"{number}.jpg", quality=90)


def _stream(root: str, size: int, repeats: int) -> None:
    from trainer.data.dataset import Split
    from trainer.data.fetch import InputForm, StreamedFetch
    from trainer.data.images.cache_key import CacheKey
    from trainer.data.images.decode import DecodeSpec
    from trainer.data.images.samples import ImageFiles, OriginalFiles
    from trainer.data.prepare import Prepare

    paths = sorted(str(path.relative_to(root)) for path in Path(root).rglob("*.jpg"))
    files = OriginalFiles(CacheKey.of(Path(root), paths, DecodeSpec()), (size, size, 3), b"")
    samples = ImageFiles(files, torch.arange(len(paths)).numpy(), torch.zeros(len(paths), dtype=torch.int64), b"")
    prepare = Prepare((3, size, size), (125.0,) * 3, (63.0,) * 3)
    order = list(torch.randperm(len(samples)).split(64))
    form = InputForm(prepare, torch.device("cpu"), torch.float32)
    streamed = StreamedFetch(Split(samples, torch.arange(len(samples))), form, workers=os.cpu_count() or 1)

    def whole() -> float:
        begin = time.perf_counter()
        assert sum(len(targets) for _, targets in streamed(order)) == len(samples)
        return time.perf_counter() - begin

    def loader_alone() -> float:
        streamed.batches[:] = [(positions.tolist(), None) for positions in order]
        begin = time.perf_counter()
        assert sum(len(targets) for _, targets in streamed.loader) == len(samples)
        return time.perf_counter() - begin

    whole(), loader_alone()
    times = alternate({"its DataLoader alone": loader_alone, f"streamed, {size}x{size}": whole}, repeats)
    show(times, "its DataLoader alone")
    share = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
    print(f"share of the DataLoader's speed: {share:.3f}")
    streamed.close()


def images(arguments: argparse.Namespace) -> None:
    """Measure an image folder against tensors in memory, and decoding by a process per core against one.

    Promised: 0.95 of the speed from the second epoch on; 1.7 for 5,000 photos of 500x400 on two cores.
    """
    from trainer.data.images.decode import DecodeSpec
    from trainer.data.images.pool import decode_all

    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        root = os.path.join(arguments.data, "cifar10-jpeg")
        if not os.path.isdir(root):
            root = f"{place}/small"
            _write_photos(Path(root), 32, 6000)
        words = ["model=cnn", "epochs=4", "patience=null", "test=false", "threads=1", f"data.root={root}"]
        candidates = {
            "tensors in memory": lambda: _later_epochs([*words, "data=custom", "data._target_=benchmark.in_memory"]),
            "image folder": lambda: _later_epochs([*words, "data=image_folder"]),
            "image folder, streamed": lambda: _later_epochs([*words, "data=image_folder", "data.resident=false"]),
        }
        times = alternate(candidates, arguments.repeats)
        show(times, "tensors in memory")
        for name in list(times)[1:]:
            share = statistics.median(a / b for a, b in zip(times["tensors in memory"], times[name], strict=True))
            print(f"speed of the {name}: {share:.3f}")

        _write_photos(Path(place) / "large", 400, 5000, width=500)
        paths = sorted(map(str, (Path(place) / "large").rglob("*.jpg")))
        rows = Path(place) / "rows"
        rows.mkdir()

        def decoding(processes: int | None, paths: list[str] = paths) -> float:
            own = rows / str(os.getpid())
            own.write_bytes(b"")
            begin = time.perf_counter()
            decode_all(paths, (224, 224, 3), DecodeSpec(224, 256), own, lambda *now: None, processes=processes)
            seconds = time.perf_counter() - begin
            own.unlink()  # what is not on the disk yet need not go there: the next would wait for it
            return seconds

        def apart() -> float:
            """Decode in one process per core, each with its share of the files."""
            begin = time.perf_counter()
            share = -(-len(paths) // (os.cpu_count() or 1))
            children = []
            for first in range(0, len(paths), share):
                if (child := os.fork()) == 0:
                    try:
                        decoding(1, paths[first : first + share])
                        os._exit(0)
                    finally:
                        os._exit(1)
                children.append(child)
            assert all(os.waitpid(child, 0)[1] == 0 for child in children)
            return time.perf_counter() - begin

        times = alternate(
            {
                "a process per core": lambda: decoding(None),
                "one process": lambda: decoding(1),
                "as many that share nothing": apart,
            },
            arguments.repeats,
        )
        show(times, "a process per core")


def in_memory(root: str) -> Source:
    """Read the images of a folder as tensors."""
    from trainer.data.images.folder import image_folder

    source = image_folder(root)
    for name, samples in source.splits.items():
        source.splits[name] = Arrays(samples.take(torch.arange(len(samples))).contiguous(), samples.targets)
    return source


def _later_epochs(words: list[str]) -> float:
    """Return the seconds of all epochs after the first, everything included."""
    from trainer.run.journal import Journal

    ends: list[float] = []

    class Clock(Journal):
        def row(self, row, best) -> None:
            super().row(row, best)
            ends.append(time.perf_counter())

    with running(words, Clock) as run:
        run()
    return ends[-1] - ends[0]


def augment(arguments: argparse.Namespace) -> None:
    """Measure augmentations of a batch on the CPU against torchvision's, and kornia's if it is installed."""
    from trainer.data.augment.base import Augmentation
    from trainer.data.augment.colour import ColourJitter
    from trainer.data.augment.geometry import RandomAffine, RandomResizedCrop

    ours: dict[str, Augmentation] = {
        "resized crop, flip": RandomResizedCrop(),
        "colour jitter": ColourJitter(hue=0.02, mean=(127.5,) * 3, std=(127.5,) * 3),
        "affine": RandomAffine(),
    }
    for batch, size in ((64, 32), (256, 32), (64, 224), (256, 224)):
        pixels = torch.rand(batch, 3, size, size)
        for name, mine in ours.items():
            print(f"\n{name}, {batch} images of {size}x{size}")
            candidates = {
                "trainer": _timed(partial(mine, pixels * 2 - 1, torch.Generator().manual_seed(0))),
                "torchvision, sample by sample": _timed(partial(_each, _torchvision(name, size), pixels)),
            }
            if importlib.util.find_spec("kornia"):
                candidates["kornia"] = _timed(partial(_kornia(name, size), pixels))
            show(alternate(candidates, arguments.repeats), "trainer", digits=4)


def _each(transform: nn.Module, pixels: Tensor) -> Tensor:
    return torch.stack([transform(image) for image in pixels])


def _torchvision(name: str, size: int) -> nn.Module:
    from torchvision.transforms import v2

    return {
        "resized crop, flip": v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]),
        "colour jitter": v2.ColorJitter(0.2, 0.2, 0.2, 0.02),
        "affine": v2.RandomAffine(10, (0.08, 0.08), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
    }[name]


def _kornia(name: str, size: int) -> nn.Module:
    import kornia.augmentation as K

    return {
        "resized crop, flip": K.AugmentationSequential(K.RandomResizedCrop((size, size)), K.RandomHorizontalFlip()),
        "colour jitter": K.ColorJitter(0.2, 0.2, 0.2, 0.02),
        "affine": K.RandomAffine(10, (0.08, 0.08), (0.9, 1.1)),
    }[name]


def _timed(run: Callable[[], Tensor]) -> Callable[[], float]:
    """Return the seconds of a call, averaged over several calls for small batches."""
    calls = max(1, 2_000_000 // run().numel())

    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - begin) / calls

    return seconds


IMPORTS = "import torch, torchvision, torchmetrics"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # the modules of an installed program are compiled, as torch's are


def startup(arguments: argparse.Namespace) -> None:
    """Measure the start of a run against the imports alone (promised: 1.5), and --help (promised: 0.6 s)."""
    with tempfile.TemporaryDirectory() as place:

        def timed(*words: str) -> float:
            begin = time.perf_counter()
            subprocess.run([sys.executable, *words], cwd=place, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
            return time.perf_counter() - begin

        def outside_the_loop() -> float:
            total = timed("-m", "trainer")
            results = json.loads((Path(place) / "outputs" / "latest" / "results.json").read_text())
            return total - results["seconds"]["training"]

        candidates = {
            "imports": lambda: timed("-c", IMPORTS),
            "default run outside its loop": outside_the_loop,
            "train --help": lambda: timed("-m", "trainer", "--help"),
        }
        show(alternate(candidates, arguments.repeats), "imports")


def memory(arguments: argparse.Namespace) -> None:
    """Measure peak memory of a run on MNIST above the imports; promised: uint8 data, one float copy and 300 MB."""

    # A child's peak starts at its parent's size, so a parent without imports measures it.
    measure = (
        "import os, subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(os.wait4(child.pid, 0)[2].ru_maxrss)"
    )

    def peak(*words: str) -> float:
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, "-c", measure, sys.executable, *words]
            completed = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True, env=ENVIRONMENT)
        return int(completed.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6

    imports = peak("-c", IMPORTS)
    run = peak("-m", "trainer", "data=mnist", f"data.root={arguments.data}", "max_steps=200")
    data, copy = 70_000 * 28 * 28 / 1e6, 70_000 * 32 * 32 * 4 / 1e6
    promised = f"promised {data + copy + 300:.0f} MB ({data:.0f} + {copy:.0f} + 300)"
    print(f"imports {imports:.0f} MB, run {run:.0f} MB: {run - imports:.0f} MB above; {promised}")


BENCHMARKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "mnist": mnist,
    "tables": tables,
    "stream": stream,
    "images": images,
    "augment": augment,
    "startup": startup,
    "memory": memory,
    "sweep": sweep,
    "stack": stack,
    "features": features,
}

GROUPS = {"all": list(BENCHMARKS), "transfer": ["features", "images"]}

if __name__ == "__main__":
    main()
