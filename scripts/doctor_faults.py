"""Precision and recall of `trainer doctor` on faults that are planted in data and configuration.

A case is data with a known set of faults, which may be empty. A check is right if it gives an error or a warning in
a case with its fault, and wrong if it does so in a case without it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = ("data=image_folder", "data.root=photos", "data.size=12", "data.cache=false", "model=mlp")
TABLE = ("data=csv", "data.path=table.csv", "data.target=target", "model=mlp")


Make = Callable[[np.random.Generator], object]  # writes or changes files in the current folder
Change = Callable[[dict[str, list], np.random.Generator], object]  # of a table's columns


@dataclass(frozen=True)
class Case:
    """Data in the current folder, written by `make`, and its faults.

    Attributes:
        faults: the checks that must report it; others must not.
        words: arguments of the doctor.
        train: whether training steps are needed to find it.
        more: checks that may report it or not.
        independent: whether it was planted by an independent tester, and missed or misreported at first.
    """

    name: str
    faults: frozenset[str]
    words: tuple[str, ...]
    make: Make
    train: bool = False
    lr: bool = False
    more: frozenset[str] = frozenset()
    independent: bool = False


def photos(random: np.random.Generator, splits: dict[str, dict[str, int]] | None = None) -> None:
    """Write a sound folder of images, or one with these counts; no two images are alike."""
    splits = splits or {split: dict.fromkeys(("cat", "dog", "eel"), 8) for split in ("train", "valid", "test")}
    for split, classes in splits.items():
        for name, count in classes.items():
            folder = Path("photos", split, name)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                suffix = ("png", "jpg")[number % 2]
                Image.fromarray(pixels).save(folder / f"{number:03}.{suffix}")


def rows(random: np.random.Generator, count: int = 120, **columns: list) -> None:
    """Write a sound table: three numbers, a category, a target that depends on two of them, and more columns."""
    a, b, c = random.normal(size=(3, count)).round(4)
    chance = 1 / (1 + np.exp(-(1.5 * a - b)))
    table: dict[str, list] = {
        "a": a.tolist(),
        "b": b.tolist(),
        "c": c.tolist(),
        "kind": random.choice(["x", "y", "z"], count).tolist(),
        "target": (random.random(count) < chance).astype(int).tolist(),
    } | columns
    write(table)


def write(table: dict[str, list]) -> None:
    """Write table.csv to the current folder."""
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    Path("table.csv").write_text("\n".join(lines) + "\n")


def read() -> dict[str, list[str]]:
    """Read table.csv."""
    header, *lines = [line.split(",") for line in Path("table.csv").read_text().split()]
    return {name: [line[n] for line in lines] for n, name in enumerate(header)}


def targets() -> list[int]:
    return [int(value) for value in read()["target"]]


def changed(change: Change) -> Make:
    """Return a case whose sound table is changed."""

    def make(random: np.random.Generator) -> None:
        rows(random)
        table: dict[str, list] = dict(read())
        change(table, random)
        write(table)

    return make


def ranks(values: list) -> list[int]:
    """Return the rank of each value."""
    return np.argsort(np.argsort(np.array(values, float))).tolist()


def quoted(write_number: Callable[[float], str]) -> Make:
    """Return a case whose table has a column of numbers written in this format."""

    def make(random: np.random.Generator) -> None:
        rows(random)
        table: dict[str, list] = dict(read())
        write(table | {"k": [write_number(float(x)) for x in table["a"]]})

    return make


def spoilt(change: Make) -> Make:
    """Return a case whose sound folder is changed."""

    def make(random: np.random.Generator) -> None:
        photos(random)
        change(random)

    return make


def random_file(random: np.random.Generator, split: str = "train", suffix: str = "png") -> Path:
    """Return one of the images."""
    return Path(random.choice(sorted(map(str, Path("photos", split).glob(f"*/*.{suffix}")))))


def cut(path: Path, share: float) -> None:
    """Keep only the beginning of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def copy(source: Path, target: str) -> None:
    """Copy a file and create the folder for it."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def noisy_copy(table: dict[str, list], random: np.random.Generator) -> None:
    """Add a column that equals the target except in one row of a hundred."""
    flips = random.random(len(table["target"])) < 0.004
    table["copy"] = [abs(int(t) - int(flip)) * 7 + 1 for t, flip in zip(table["target"], flips, strict=True)]


def set_cells(table: dict[str, list], random: np.random.Generator, column: str, text: str, share: float) -> None:
    """Replace some cells of a column, at least one, by this text."""
    chosen = random.random(len(table[column])) < share
    chosen[random.integers(len(chosen))] = True
    table[column] = [text if c else value for c, value in zip(chosen, table[column], strict=True)]


def holes(share: float, *columns: str) -> Change:
    """Empty some cells; a column that does not exist yet is first a copy of the target."""

    def change(table: dict[str, list], random: np.random.Generator) -> None:
        for name in columns:
            table.setdefault(name, table["target"])
            set_cells(table, random, name, "", share)

    return change


def derived_from(table: dict[str, list], how: Callable[[int, float], float], noise: Callable[..., np.ndarray]) -> list:
    """Return a column made of the target and noise."""
    return [round(how(int(y), n), 4) for y, n in zip(table["target"], noise(size=len(table["a"])), strict=True)]


def emptied(folder: str) -> None:
    """Delete the files of a folder."""
    for path in Path(folder).iterdir():
        path.unlink()


def add_class(random: np.random.Generator) -> None:
    """Add a class without images to every split."""
    for split in ("train", "valid", "test"):
        Path("photos", split, "fox").mkdir()


def regression(leak: Callable[[np.ndarray], np.ndarray] | None) -> Make:
    """Return a case whose table has a number as its target and a column that is a function of it."""

    def make(random: np.random.Generator) -> None:
        rows(random, 150)
        table: dict[str, list] = dict(read())
        values = 2.5 * np.array(table["a"], float) + random.normal(size=150)
        table["target"] = values.round(5).tolist()
        if leak is not None:
            table["derived"] = leak(values).round(6).tolist()
        write(table)

    return make


def module(body: str) -> Make:
    """Write a data set of the user's own to planted.py."""

    def make(random: np.random.Generator) -> None:
        Path("planted.py").write_text(
            "import torch\n\n\nclass Planted(torch.utils.data.Dataset):\n"
            f"    classes = ['no', 'yes']\n\n    def __init__(self):\n"
            f"        g = torch.Generator().manual_seed({random.integers(10**6)})\n"
            "        self.x = torch.randn(60, 5, generator=g)\n"
            "        self.image = torch.randn(60, 1, 6, 6, generator=g)\n"
            "        self.y = torch.randint(0, 2, (60,), generator=g)\n"
            "        self.bad = int(torch.randint(0, 60, (), generator=g))\n\n"
            "    def __len__(self):\n        return 60\n\n    def __getitem__(self, i):\n"
            f"        {body}\n"
        )
        sys.modules.pop("planted", None)

    return make


CUSTOM = ("data=custom", "data._target_=planted.Planted", "model=mlp")
BATCHNORM = ("data=iris", "model=mlp", "model.norm=batch")


def cases() -> Iterator[Case]:
    """All of them; those without faults come first."""

    def case(name: str, faults: str, words: tuple[str, ...], make: Make, more: str = "", **options: bool) -> Case:
        split = [frozenset(filter(None, text.split("; "))) for text in (faults, more)]
        return Case(name, split[0], words, make, more=split[1], **options)

    nothing: Make = lambda random: None  # noqa: E731
    for name in ("iris", "wine", "breast_cancer", "diabetes"):
        yield case(f"bundled {name}", "", (f"data={name}", "model=mlp"), nothing)
    yield case("bundled digits", "", (), nothing)
    yield case("sound folder", "", FOLDER, photos)
    yield case("sound table", "", TABLE, rows)
    yield case("sound regression", "", TABLE, regression(None))
    yield case("sound data set", "", CUSTOM, module("return self.x[i], int(self.y[i])"))
    yield case("an informative column", "", TABLE, changed(
        lambda t, r: t.update(hint=derived_from(t, lambda y, n: y + 0.7 * n, r.normal))))  # fmt: skip

    lists = "class lists"
    doubled = "duplicates"
    yield case("class missing in valid", lists, FOLDER, spoilt(lambda r: shutil.rmtree("photos/valid/dog")))
    yield case("class only in test", lists, FOLDER, spoilt(
        lambda r: copy(random_file(r), "photos/test/fox/1.png")), more=doubled)  # fmt: skip
    yield case(
        "class spelt otherwise", lists, FOLDER, spoilt(lambda r: Path("photos/test/dog").rename("photos/test/Dog"))
    )
    yield case("no train split", lists, FOLDER, spoilt(lambda r: Path("photos/train").rename("photos/learn")))
    yield case("one class", lists, FOLDER, lambda r: photos(r, {p: {"cat": 9} for p in ("train", "test")}))

    hidden = "hidden folders"
    yield case("hidden class", hidden, FOLDER, spoilt(lambda r: copy(random_file(r), "photos/train/.fox/1.png")))
    yield case("checkpoints of a notebook", hidden, FOLDER, spoilt(
        lambda r: copy(random_file(r), "photos/train/cat/.ipynb_checkpoints/1.png")))  # fmt: skip

    empty = "empty classes"
    yield case("empty class", empty, FOLDER, spoilt(lambda r: emptied("photos/train/dog")))
    yield case("class of texts", empty, FOLDER, spoilt(
        lambda r: [p.rename(p.with_suffix(".txt")) for p in Path("photos/valid/eel").iterdir()]))  # fmt: skip
    yield case("empty class everywhere", empty, FOLDER, spoilt(add_class))

    bad = "unreadable images"
    yield case("cut PNG", bad, FOLDER, spoilt(lambda r: cut(random_file(r), 0.6)))
    yield case("cut JPEG", bad, FOLDER, spoilt(lambda r: cut(random_file(r, suffix="jpg"), 0.6)))
    yield case("empty file", bad, FOLDER, spoilt(lambda r: random_file(r, "test").write_bytes(b"")))
    yield case("text called PNG", bad, FOLDER, spoilt(lambda r: random_file(r, "valid").write_text("no image")))
    yield case("flipped bits", bad, FOLDER, spoilt(lambda r: flip(random_file(r), r)))
    yield case("two faults", f"{bad}; {empty}", FOLDER, spoilt(
        lambda r: [step(r) for step in (lambda r: cut(random_file(r), 0.5), add_class)]))  # fmt: skip

    across, within, odd = "duplicates across splits", "duplicates", "contradictions"
    yield case("copy in test", across, FOLDER, spoilt(
        lambda r: copy(p := random_file(r), f"photos/test/{p.parent.name}/copy.png")))  # fmt: skip
    yield case("copy in valid", across, FOLDER, spoilt(
        lambda r: copy(p := random_file(r, "test"), f"photos/valid/{p.parent.name}/copy.png")))  # fmt: skip
    yield case(
        "copy in the same class", within, FOLDER, spoilt(lambda r: copy(p := random_file(r), f"{p.parent}/copy.png"))
    )
    yield case("copy in another class", f"{within}; {odd}", FOLDER, spoilt(lambda r: copy(
        p := random_file(r), f"photos/train/{'eel' if p.parent.name != 'eel' else 'cat'}/copy.png")))  # fmt: skip
    yield case("rows in every split", across, TABLE, changed(lambda t, r: t.update({k: v * 3 for k, v in t.items()})))
    yield case("rows of two classes", odd, TABLE, changed(
        lambda t, r: t.update({k: v + [str(1 - int(x)) for x in v] if k == "target" else v * 2 for k, v in t.items()})),
        more=across)  # fmt: skip

    imbalance = "imbalance"
    few = {"train": {"cat": 40, "dog": 3}, "valid": {"cat": 4, "dog": 4}, "test": {"cat": 4, "dog": 4}}
    yield case("a rare class of images", imbalance, FOLDER, lambda r: photos(r, few))
    yield case("a rare class of rows", imbalance, TABLE, changed(lambda t, r: t.update(
        target=[int(n < 8) for n in range(len(t["target"]))])))  # fmt: skip

    missing = "missing values"
    for text in ("", "NA", "?"):
        yield case(
            f"missing as {text!r}", missing, TABLE, changed(partial(set_cells, column="b", text=text, share=0.05))
        )
    yield case("half a column missing", missing, (*TABLE, "data.missing=mean"), changed(
        lambda t, r: set_cells(t, r, "c", "NA", 0.5)))  # fmt: skip
    yield case("missing target", missing, (*TABLE, "data.missing=mean"), changed(
        lambda t, r: set_cells(t, r, "target", "NA", 0.03)))  # fmt: skip

    constant = "constant columns"
    yield case("constant number", constant, TABLE, changed(lambda t, r: t.update(k=[4] * len(t["a"]))))
    yield case("constant text", constant, TABLE, changed(lambda t, r: t.update(k=["same"] * len(t["a"]))))
    yield case("empty column", constant, (*TABLE, "data.missing=mean"), changed(
        lambda t, r: t.update(k=["NA"] * len(t["a"]))), more=missing)  # fmt: skip

    numbers = "identifiers"
    yield case("row numbers", numbers, TABLE, changed(lambda t, r: t.update(id=list(range(1, len(t["a"]) + 1)))))
    yield case(
        "shuffled numbers", numbers, TABLE, changed(lambda t, r: t.update(id=r.permutation(len(t["a"])).tolist()))
    )
    yield case("names", numbers, TABLE, changed(lambda t, r: t.update(id=[f"n{n}" for n in range(len(t["a"]))])))

    yield case("repeated column", "repeated columns", TABLE, changed(lambda t, r: t.update(again=t["a"])))
    yield case("bad cell", "unusable columns", TABLE, changed(lambda t, r: set_cells(t, r, "a", "1.2.3", 0.0)))
    yield case("infinite cell", "unusable columns", TABLE, changed(lambda t, r: set_cells(t, r, "a", "inf", 0.0)))

    leak = "leaks"
    yield case("target as text", leak, TABLE, changed(lambda t, r: t.update(derived=[f"c{y}" for y in t["target"]])))
    yield case("target scaled", leak, TABLE, changed(
        lambda t, r: t.update(derived=derived_from(t, lambda y, n: 3.5 * y - 1 + n, r.random))))  # fmt: skip
    yield case("target by codes", leak, TABLE, changed(
        lambda t, r: t.update(derived=derived_from(t, lambda y, n: 2 * int(6 * n) + y, r.random))))  # fmt: skip
    yield case("target with noise", leak, TABLE, changed(noisy_copy))
    yield case("target in another unit", leak, TABLE, regression(lambda y: 1.8 * y + 32))
    yield case("target's exponential", leak, TABLE, regression(lambda y: np.exp(y)))
    yield case("target's square", leak, TABLE, regression(lambda y: y**3))
    yield case("target nearly", leak, TABLE, regression(lambda y: y + 0.01 * np.sin(40 * y)))

    labels = "label range"
    yield case("label -100", labels, CUSTOM, module("return self.x[i], -100 if i == self.bad else int(self.y[i])"))
    yield case("label 2 of 2", labels, CUSTOM, module("return self.x[i], 2 if i == self.bad else int(self.y[i])"))
    yield case(
        "labels of two kinds", labels, CUSTOM, module("return self.x[i], 0.5 if i == self.bad else int(self.y[i])")
    )
    yield case("no labels", labels, CUSTOM, module("return self.x[i], None"))
    yield case("NaN in an image", "non-finite inputs", CUSTOM, module(
        "return self.image[i] / (0 if i == self.bad else 1), int(self.y[i])"))  # fmt: skip

    yield case("channels", "shapes", ("model.in_channels=3",), nothing)
    yield case("outputs", "shapes", ("model.num_outputs=7",), nothing)
    yield case("images for a table", "shapes", ("data=iris", "model=lenet5"), nothing)
    yield case("batches of one", "last batch", (*BATCHNORM, "batch_size=1"), nothing)

    yield from independent_cases()
    yield case("sound training", "", ("data=iris", "model=mlp"), nothing, train=True, lr=True)
    table, both = ("data=iris", "model=mlp", "optim=sgd"), "one batch; learning rate"
    yield case("a learning rate of nothing", both, (*table, "optim.lr=1e-9"), nothing, train=True, lr=True)
    yield case("a learning rate of 100", both, (*table, "optim.lr=100"), nothing, train=True, lr=True)


def independent_cases() -> Iterator[Case]:
    """Yield the cases of an independent tester that the checks missed or misreported at first."""

    def case(name: str, fault: str, words: tuple[str, ...], make: Make, more: str = "") -> Case:
        faults, also = (frozenset(filter(None, text.split("; "))) for text in (fault, more))
        return Case(name, faults, words, make, more=also, independent=True)

    def table(name: str, fault: str, change: Change, *words: str, more: str = "") -> Case:
        return case(name, fault, (*TABLE, *words), changed(change), more)

    beside, names = "images left out", "class names"
    yield case("misspelt split", beside, FOLDER, spoilt(lambda r: Path("photos/valid").rename("photos/vaild")))
    yield case("split of another name", beside, FOLDER, spoilt(lambda r: Path("photos/valid").rename("photos/dev")))
    yield case("images in no class", beside, FOLDER, spoilt(lambda r: random_file(r).rename("photos/train/1.png")))
    yield case("a dead link", "", FOLDER, spoilt(lambda r: Path("photos/train/cat/x.png").symlink_to("nowhere")))
    yield case(
        "an empty class that is not asked for",
        "",
        (*FOLDER, "data.classes=[cat,dog]"),
        spoilt(lambda r: emptied("photos/train/eel")),
    )
    yield case("classes but for case", names, FOLDER, spoilt(
        lambda r: [Path(f"photos/{p}/dog").rename(f"photos/{p}/Cat") for p in ("train", "valid", "test")]))  # fmt: skip
    yield table("yes and YES", names, lambda t, r: t.update(
        target=[("no", ("yes", "YES")[n % 2])[int(y)] for n, y in enumerate(t["target"])]))  # fmt: skip
    yield table("1 and 1.0", names, lambda t, r: t.update(
        target=[y + (".0" if n % 2 else "") for n, y in enumerate(t["target"])]))  # fmt: skip

    labels, leak, missing, unusable = "label range", "leaks", "missing values", "unusable columns"
    yield table("names as target", labels, lambda t, r: t.update(target=[f"p{n}" for n in range(len(t["a"]))]))
    yield table("a text in a number's target", labels, lambda t, r: t.update(target=[*t["a"][1:], "none_yet"]))
    yield table("infinity in a number's target", labels, lambda t, r: t.update(target=["inf", *t["b"][1:]]))
    yield table("one number as target", labels, lambda t, r: t.update(target=["3.5"] * len(t["a"])))
    for share in (0.1, 0.5):
        yield table(
            f"target with {share:.0%} missing", leak, holes(share, "derived"), "data.missing=median", more=missing
        )
    yield table("a number's bins", leak, lambda t, r: t.update(
        target=t["a"], derived=[f"g{20 * n // len(t['a'])}" for n in ranks(t["a"])]))  # fmt: skip
    yield table("few rows left", missing, holes(0.4, "a", "b", "c"), "data.missing=drop")
    for name, write_ in (
        ("decimal commas", lambda x: f'"{1.2345 + x:.4f}"'.replace(".", ",")),
        ("a unit", lambda x: f"{70 + x:.2f} kg"),
        ("thousands", lambda x: f'"{int(50_000 + 9_000 * x):,}"'),
        ("dates", lambda x: f"20{int(50 + x) % 90:02}/{int(1e4 * abs(x)) % 12 + 1:02}/{int(1e5 * abs(x)) % 28 + 1:02}"),
    ):
        yield case(name, unusable, TABLE, quoted(write_))
    yield table("noise of rounding", "constant columns", lambda t, r: t.update(
        k=[repr(1000 + 1e-9 * float(x)) for x in t["a"]]))  # fmt: skip
    yield table("999 for nothing", missing, lambda t, r: set_cells(t, r, "b", "-999", 0.05))
    yield table("a slip of the pen", "scale", lambda t, r: set_cells(t, r, "b", "1e12", 0.0))
    yield table("inches", "repeated columns", lambda t, r: t.update(inch=[repr(float(x) / 2.54) for x in t["a"]]))
    yield table("codes of a category", "repeated columns", lambda t, r: t.update(
        code=["zxy".index(kind) for kind in t["kind"]]))  # fmt: skip
    yield table("rows hidden by numbers", "duplicates across splits; identifiers", lambda t, r: (
        t.update({k: v * 2 for k, v in t.items()}), t.update(id=list(range(len(t["a"]))))))  # fmt: skip
    yield table("coarse columns", "", lambda t, r: t.update({k: r.integers(0, 2, 120).tolist() for k in "abc"}))
    for word in ("loss.weight=balanced", "data.balance=sampler"):
        yield table(f"a rare class with {word}", "", lambda t, r: t.update(
            target=[int(n < 8) for n in range(len(t["target"]))]), word)  # fmt: skip

    finite = "non-finite inputs"
    yield case("infinity in a row", finite, CUSTOM, module("return self.x[i] / float(i != self.bad), int(self.y[i])"))
    yield case("NaN in item 0", finite, CUSTOM, module("return self.x[i] / (i != 0) * (i != 0), int(self.y[i])"))
    yield case("items as dicts", labels, CUSTOM, module("return {'x': self.x[i], 'y': int(self.y[i])}"))
    yield case("an item that fails", "data", CUSTOM, module("return self.x[i], [0, 1][9 if i == self.bad else 0]"))


def flip(path: Path, random: np.random.Generator) -> None:
    """Change a byte in the middle of a PNG's pixels."""
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 12 + int(random.integers(20))] ^= 0xFF
    path.write_bytes(data)


def reported_checks(case: Case, seed: int) -> set[str]:
    """Return the checks that give an error or a warning, except those of the machine."""
    from trainer.doctor.examine import examine
    from trainer.signals import Signals

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        case.make(np.random.default_rng(seed))
        sys.path.insert(0, os.getcwd())
        try:
            words = ["threads=1", f"seed={seed}", *case.words]
            report, _ = examine(words, Signals(), lambda *progress: None, train=case.train, lr=case.lr)
        finally:
            sys.path.remove(os.getcwd())
    machine = {"threads", "disk", "memory"}
    return {finding.check for finding in report.findings if finding.severity != "note"} - machine


def measure(variants: int) -> dict[str, Counter]:
    """Return, for each check, how often it was right, missing and wrong."""
    counts: dict[str, Counter] = {}
    for case in cases():
        for seed in range(1 if case.train else variants):
            reported = reported_checks(case, seed)
            for check in reported | case.faults:
                kind = "right" if check in reported & case.faults else "missing" if check in case.faults else "wrong"
                if kind == "wrong" and check in case.more:
                    continue
                counts.setdefault(check, Counter())[kind] += 1
                if kind != "right":
                    print(f"{kind}: {check} in {case.name}, seed {seed}", file=sys.stderr)
    return counts


def leak_strength(rows: int = 500, draws: int = 200) -> dict[float, float]:
    """Return how often a noisy copy of a binary target is reported as a leak, by the share of wrong rows."""
    import torch

    from trainer.doctor.leaks import determines_class

    generator, rates = torch.Generator().manual_seed(0), {}
    for share in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05):
        hits = 0
        for _ in range(draws):
            labels = torch.randint(0, 2, (rows,), generator=generator)
            wrong = torch.rand(rows, generator=generator) < share
            values = torch.where(wrong, 1 - labels, labels) + 0.8 * torch.rand(rows, generator=generator)
            hits += determines_class(values.double(), labels)
        rates[share] = hits / draws
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=5, help="variants of each case")
    counts = measure(parser.parse_args().variants)
    sound = sum(not case.faults for case in cases())
    print(f"{sum(1 for _ in cases())} cases, {sound} of them without a fault\n")
    print("| check | planted | found | wrongly | precision | recall |\n|---|---|---|---|---|---|")
    for check, count in sorted(counts.items()):
        planted, reported = count["right"] + count["missing"], count["right"] + count["wrong"]
        precision = f"{count['right'] / reported:.2f}" if reported else "-"
        recall = f"{count['right'] / planted:.2f}" if planted else "-"
        print(f"| {check} | {planted} | {count['right']} | {count['wrong']} | {precision} | {recall} |")
    strength = leak_strength()
    print(f"\n| rows of a copied target that are wrong | {' | '.join(f'{share:.1%}' for share in strength)} |")
    print(f"|---{'|---' * len(strength)}|\n| taken for a leak | {' | '.join(f'{v:.0%}' for v in strength.values())} |")


if __name__ == "__main__":
    main()
