"""report.html: it shows the values of the run, and loads and runs nothing from the run folder."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import shlex
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers.datasets import write_images
from helpers.metrics import metrics_row, write_metrics
from helpers.runs import train_in
from trainer.data import mistakes
from trainer.errors import UserError
from trainer.records import record
from trainer.records.find import run_folder
from trainer.report import confusion, page, svg
from trainer.report.run_page import html, write_page

pytestmark = pytest.mark.slow

VOID = {"meta", "img", "br", "link", "input", "hr"}
HEADER = "epoch,step,lr,valid_loss,seconds,samples_per_second"
EVIL = "</script><b onmouseover=x>\"'&<img src=http://evil.example/x onerror=alert(1)>"


class Page(HTMLParser):
    """Elements with their attributes, in order; refuses what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_in(tmp_path_factory.mktemp("digits"), "epochs=2")


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_in(tmp_path_factory.mktemp("diabetes"), "data=diabetes", "model=mlp", "epochs=2")


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a hundred classes, some of whose names are hostile."""
    folder = tmp_path_factory.mktemp("hundred")
    names = [f"class {n:02}" for n in range(97)] + ["<b>bold", "&amp;", "a' onload='x"]
    counts = {f"{split}/{name}": count for split, count in (("train", 5), ("test", 2)) for name in names}
    write_images(folder / "photos", counts, size=6)
    return train_in(folder, "data=image_folder", "data.root=photos", "model=mlp", "model.hidden=[16]", "epochs=2")


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    """A run's folder that a test may spoil."""
    return Path(shutil.copytree(digits, tmp_path / "run"))


def change(path: Path, **changed: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize("run", ["digits", "diabetes", "hundred"])
def test_the_page_stands_alone_and_is_well_formed(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    text = (folder / "report.html").read_text()
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", text.replace("http-equiv", ""))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"].lstrip("#") for a in page.all("a")} <= set(ids)
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("role") == "img" and a.get("aria-label") for a in page.all("svg"))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("a")[0]["href"] == "#main"
    assert page.all("a")[0]["class"] == "skip"
    assert page.elements[[tag for tag, _ in page.elements].index("main")][1]["id"] == "main"


def test_the_page_shows_what_the_run_found(digits: Path) -> None:
    results = json.loads((digits / "results.json").read_text())
    page = Page((digits / "report.html").read_text())
    assert f"{results['test']['accuracy']:.2%}" in page.text
    for name in ("Curves", "Classes", "Confusion matrix", "Calibration", "Most confident mistakes", "Commands"):
        assert name in page.texts
    wrong = sum(row["total"] - row["correct"] for row in results["test"]["per_class"])
    assert len(page.all("img")) == min(wrong, mistakes.MOST) + 1  # and the first batch
    for image in page.all("img"):
        assert base64.b64decode(image["src"].partition(",")[2]).startswith(b"\x89PNG")
    assert f"train resume={digits}" not in page.text  # as it was named when it was written
    assert "train threads=1 epochs=2" in page.text
    assert results["versions"]["torch"] in page.text
    assert "optim:" in page.text


def test_a_regression_has_its_predictions(diabetes: Path) -> None:
    page = Page((diabetes / "report.html").read_text())
    assert "Predictions" in page.texts
    assert "Calibration" not in page.texts
    stored = json.loads((diabetes / "details.json").read_text())["predictions"]
    assert len([a for a in page.all("circle") if a["class"] == "b" and a["r"] == "3"]) >= 2 * len(stored)
    rmse = torch.tensor(stored).diff(dim=1).square().mean().sqrt()
    assert rmse.item() == pytest.approx(json.loads((diabetes / "results.json").read_text())["test"]["rmse"], rel=1e-5)


def test_a_hundred_classes_can_be_read(hundred: Path) -> None:
    page = Page((hundred / "report.html").read_text())
    results = json.loads((hundred / "results.json").read_text())
    matrix = results["test"]["confusion_matrix"]
    titles = [a["title"] for a in page.all("td") if "title" in a]
    assert len(titles) == sum(count > 0 for row in matrix for count in row)
    assert sum(int(re.search(r"\d+( right)?$", text)[0].split()[0]) for text in titles) == sum(map(sum, matrix))
    pairs = confusion.most_confused(matrix, [row["class"] for row in results["test"]["per_class"]])
    assert [count for _, _, count, _ in pairs] == sorted((count for _, _, count, _ in pairs), reverse=True)
    assert pairs[0][2] == max(matrix[i][j] for i in range(100) for j in range(100) if i != j)
    assert len((hundred / "report.html").read_bytes()) < 1_000_000
    assert "<b>bold" in page.text


def test_metrics_have_four_decimals_and_typed_values_stay_short() -> None:
    text = page.table("Classes", ["class", "accuracy", "recall", "optim.lr"], [["a", 0.36, 0.12345, 0.01]])
    assert [cell for cell in ("0.3600<", "0.1235<", "0.01<") if cell in text] == ["0.3600<", "0.1235<", "0.01<"]


def test_axes_have_round_ticks_within_their_range() -> None:
    assert svg.Axis.over([0.0, 1.0], 0, 100).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert svg.Axis.over([1.0, 8.0], 0, 100, whole=True).ticks() == [2, 4, 6, 8]
    assert svg.Axis.over([1e-3, 1.0], 0, 100, log=True).ticks()[:3] == pytest.approx([1e-3, 2e-3, 5e-3])
    for values in ([0.0, 5e-324], [1e299, -1e299], [3.0, 3.0], [1e16, 1e16 + 2], [1e-290, 1e290]):
        for log in (False, True):
            axis = svg.Axis.over(values, 0, 100, log=log)
            assert all(-1 <= axis(tick) <= 101 for tick in axis.ticks())
            assert 0 <= axis(values[0]) <= 100


def test_dots_stay_within_the_frame() -> None:
    points = [(1.0, 0.0), (2.0, 5.0), (3.0, 2.5)]
    for chart in (svg.line_chart("loss", "epoch", {"valid": points}), svg.scatter_chart("it", "true", "found", points)):
        dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="(\d+)"', chart)
        assert len(dots) == 3
        for x, y, radius in ((float(x), float(y), float(r)) for x, y, r in dots):
            assert svg.LEFT <= x - radius < x + radius <= svg.WIDTH - svg.RIGHT
            assert svg.TOP <= y - radius < y + radius <= svg.HEIGHT - svg.BOTTOM


def test_a_long_curve_keeps_its_extremes() -> None:
    points = [(float(n), 1.0) for n in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    thinned = svg.thinned(points)
    assert len(thinned) <= svg.MAX_POINTS
    assert (54_321.0, 9.0) in thinned
    assert thinned == sorted(thinned)


def test_whatever_stands_in_the_folder_is_text(copy: Path) -> None:
    results = json.loads((copy / "results.json").read_text())
    for row in results["test"]["per_class"]:
        row["class"] += EVIL
    results |= dict.fromkeys(("reason", "status", "device", "git_commit", "data_fingerprint", "error"), EVIL)
    results |= {"versions": {EVIL: EVIL}, "command": ["rm", EVIL], "overrides": ["-rf", EVIL], "seconds": {EVIL: 1.0}}
    results["test"][EVIL] = results["valid"][EVIL] = 0.5
    (copy / "results.json").write_text(json.dumps(results))
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config + f"name: {json.dumps(EVIL)}\n")
    mistakes = json.loads((copy / "details.json").read_text())["mistakes"]
    for mistake in mistakes:
        mistake |= {"true": EVIL, "predicted": EVIL}
    mistakes[0]["image"] = 'x" onerror="alert(1)'
    change(copy / "details.json", mistakes=mistakes)
    rows = [metrics_row(n, **{f"valid_{EVIL}": 2.0, "valid_loss": loss}) for n, loss in ((1, 3.0), (2, math.nan))]
    write_metrics(copy, rows)
    place = copy.rename(copy.with_name("<b>run"))
    page = Page(write_page(place).read_text())
    names = [tag for tag, _ in page.elements]
    assert names.count("script") == 1
    assert "b" not in {tag for tag, a in page.elements if a and tag == "b"}
    assert all(a["src"].startswith("data:image/png;base64,iVBOR") for a in page.all("img"))
    assert len(page.all("img")) == len(mistakes)  # one mistake less, and the first batch
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    assert EVIL in page.text
    assert f"train {shlex.quote(EVIL)}" in page.text
    assert "rm -rf" not in page.text.replace("train -rf", "")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.yaml", "a: &a [x]\nb: [*a, *a]\n", "aliases"),
        ("config.yaml", "x" * 2_000_000, "2,000,000 bytes are more than the 1,000,000 accepted"),
        ("config.yaml", "[1, 2]", "expected a configuration, found list"),
        ("config.yaml", "a: [", "not readable"),
        ("config.yaml", f"seed: 0x{'f' * 9000}\n", "not readable: line 1: a number of 9,002 digits"),
        ("metrics.csv", f"{HEADER}\n1,1,0.1,{'9' * 200_000},1,1\n", "not readable (field larger than field limit"),
        ("config.yaml", "!!python/object/apply:os.system ['touch canary']", "not readable"),
        ("results.json", "[" * 100_000, "not readable as JSON"),
        ("results.json", '{"status": "comp', "not readable as JSON"),
        ("results.json", "[]", "unexpected content"),
        ("results.json", '{"status": 3}', "status is of type int"),
        ("results.json", '{"status": "completed", "test": {"per_class": 3}}', "test.per_class is not a list"),
        ("results.json", '{"status": "x", "test": {"confusion_matrix": [[1, 2]]}}', "does not fit test.per_class"),
        ("results.json", '{"status": "x", "epochs": 1' + "0" * 400 + "}", "epochs is out of range"),
        ("results.json", '{"status": "x", "epochs": 1' + "0" * 5000 + "}", "not readable as JSON"),
        ("metrics.csv", "epoch,valid_loss\n1,2\n", "not readable (its columns are not those of a metrics.csv)"),
        ("metrics.csv", f"{HEADER}\n1,1,0.1,abc,1,1\n", "not readable"),
        ("metrics.csv", f"{HEADER}\n1.5,1,0.1,2,1,1\n", "not readable"),
        ("metrics.csv", f"{HEADER}\n1,1,nan,2,1,1\n", "not readable (lr is out of range)"),
        ("metrics.csv", f"{HEADER}\n1,2,3,4\n", "not readable (a row of 4 cells under 6 columns)"),
        ("details.json", '{"mistakes": [{"image": 3}]}', "mistakes.image is of type int"),
        ("details.json", " " * 20_000_001, "more than the 20,000,000 accepted"),
        ("explain/columns.json", '{"part": 3}', "explain/columns.json: unexpected content: part is of type int"),
        ("evaluation-1.json", '{"part": 3}', "evaluation-1.json: unexpected content: part is of type int"),
        ("metrics.csv", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(copy: Path, name: str, content: str | bytes, words: str, verb) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=re.escape(words)):
        write_page(copy)
    done = verb("report", str(copy))
    assert done.code == 1
    err = done.err
    assert err.count("\n") == 1
    assert words in err
    assert not Path("canary").exists()


def test_links_and_pipes_are_not_followed(copy: Path) -> None:
    private = copy.parent / "private"
    private.write_text("password: swordfish")
    for name in ("results.json", "config.yaml"):
        (copy / name).unlink()
        (copy / name).symlink_to(private)
        with pytest.raises(UserError, match="symbolic link") as raised:
            write_page(copy)
        assert str(raised.value).count(str(copy / name)) == 1  # no sentence within a sentence
    import os

    (copy / "config.yaml").unlink()
    os.mkfifo(copy / "config.yaml")
    with pytest.raises(UserError, match="not a regular file"):
        write_page(copy)


def test_environment_variables_stay_names(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "swordfish")
    (copy / "config.yaml").write_text("name: ${oc.env:A_SECRET}\nmodel:\n  _target_: os.system\n")
    text = html(record.read(copy))
    assert "swordfish" not in text
    assert "${oc.env:A_SECRET}" in text


def test_a_run_that_was_broken_off_has_a_page(copy: Path) -> None:
    for name in ("results.json", "details.json"):
        (copy / name).unlink()
    (copy / "metrics.csv").write_text((copy / "metrics.csv").read_text()[:-30])  # a torn last line
    page = Page(write_page(copy).read_text())
    assert "broken off" in page.texts
    assert "Curves" in page.texts
    assert "Confusion matrix" not in page.texts
    (copy / "metrics.csv").unlink()
    Page(write_page(copy).read_text())


def test_a_folder_of_runs_gets_a_page_each(digits: Path, tmp_path: Path, verb) -> None:
    for name in ("day/one", "day/two", "day/three"):
        shutil.copytree(digits, tmp_path / name, ignore=shutil.ignore_patterns("*.html", "*.pt"))
    (tmp_path / "day" / "two" / "results.json").write_text("{")
    (tmp_path / "day" / "loop").symlink_to(tmp_path)
    done = verb("report", "day")
    assert done.code == 1
    out, err = done.out, done.err
    assert out.split() == ["day/one/report.html", "day/three/report.html"]
    assert err.startswith("trainer report: error: day/two/results.json: not readable as JSON")
    assert err.count("\n") == 1
    assert (tmp_path / "day" / "one" / "report.html").read_text().count("train resume=day/one") == 1


@pytest.mark.parametrize("words", [["report", "copied/best.pt"], ["compare", "copied/best.pt", "copied/best.pt"]])
def test_a_lone_checkpoint_has_no_page(digits: Path, words: list[str], verb) -> None:
    """Two folders above it is somebody else's."""
    Path("copied").mkdir()
    shutil.copy(digits / "checkpoints" / "best.pt", "copied")
    done = verb(*words)
    assert done.code == 2
    assert "copied/best.pt: a single file; expected a run folder" in done.err


def test_the_checkpoint_of_a_run_stands_for_it(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_folder(str(digits / "checkpoints" / "best.pt")) == digits
    monkeypatch.chdir(digits / "checkpoints")
    assert run_folder("best.pt") == digits


@pytest.mark.parametrize("words", [["nothing"], ["."], []])
def test_a_place_without_runs_is_wrong_usage(words: list[str], verb) -> None:
    done = verb("report", *words)
    assert done.code == 2
    err = done.err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_pictures_that_a_run_left_out_are_drawn(tmp_path: Path, verb) -> None:
    run = train_in(tmp_path, "data=iris", "model=mlp", "epochs=2", "plots=false")
    assert verb("report", str(run)).code == 0
    for name in ("curves.png", "confusion_matrix.png"):
        with Image.open(run / name) as picture:
            assert min(picture.size) > 200
            assert picture.convert("L").getextrema()[0] < 100  # something dark on the white
    drawn = (run / "curves.png").stat()
    assert verb("report", str(run)).code == 0
    assert (run / "curves.png").stat().st_ino == drawn.st_ino  # what is there stays


def test_pictures_are_not_drawn_through_a_link(copy: Path, tmp_path: Path, verb) -> None:
    (copy / "curves.png").unlink()
    (copy / "curves.png").symlink_to(tmp_path / "elsewhere")
    write_metrics(copy, [metrics_row(1, valid_mae=1.0)])  # none of the columns that are drawn
    assert verb("report", str(copy)).code == 0
    assert not (tmp_path / "elsewhere").exists()
    assert (copy / "curves.png").is_symlink()  # it was there, and only missing pictures are drawn


def test_later_evaluations_have_a_row_each(copy: Path, verb) -> None:
    for words in (["--calibrate"], ["--part", "valid"], []):
        assert verb("evaluate", str(copy), *words).code == 0
    (copy / "evaluation-4.json").touch()  # another evaluation is at work, or was broken off
    page = Page(write_page(copy).read_text())
    assert "Later evaluations" in page.texts
    assert [f"evaluation-{n}.json" in page.texts for n in (1, 2, 3, 4)] == [True, True, True, False]
    first, second, _ = (json.loads((copy / f"evaluation-{n}.json").read_text()) for n in (1, 2, 3))
    for figure in (first["calibration"]["calibrated"]["temperature"], second["test"]["loss"]):
        assert repr(figure) in [a.get("data-value") for a in page.all("td")]


def test_names_of_figures_are_words(copy: Path) -> None:
    found = {"part": "test", "samples": 3, "overrides": [], "test": {"balanced_accuracy": 0.5, "top5_accuracy": 0.75}}
    (copy / "evaluation-1.json").write_text(json.dumps(found))
    texts = Page(write_page(copy).read_text()).texts
    assert {"balanced accuracy", "top5 accuracy"} <= set(texts)
    assert not {"balanced_accuracy", "top5_accuracy"} & set(texts)


def repeat(run: Path) -> str | None:
    """The words on the page that make the run again."""
    found = re.search(r'aria-label="Repeat"><code>(.*?)</code>', html(record.read(run)))
    return unescape(found[1]) if found else None


def test_the_page_repeats_this_run(copy: Path, sweep) -> None:
    """For a job, its own overrides with drawn values; for a resumed run, whose first overrides are unknown, nothing."""
    assert repeat(copy) == "train threads=1 epochs=2"
    words = (
        "data=iris",
        "model=mlp",
        "model.hidden=[4],[8]",
        "optim.lr=${loguniform:1e-4,1e-2}",
        "trial=3",
        "epochs=1",
    )
    done = sweep("-m", *words, "threads=1", "sweep.workers=1")
    assert done.folder is not None, done.err
    folder = done.folder
    jobs = sorted(path.parent for path in folder.glob("*/results.json"))
    for job, hidden in zip(jobs, ("[4]", "[8]"), strict=True):
        stored = record.read(job).stored
        rate = repr(stored["optim"]["lr"])
        typed = f"train data=iris model=mlp 'model.hidden={hidden}' optim.lr={rate} trial=3 epochs=1 threads=1"
        assert repeat(job) == typed
    again = train_in(copy.parent, *shlex.split(typed)[1:], "plots=false")
    assert record.read(again).results.valid == record.read(jobs[1]).results.valid
    change(copy / "results.json", overrides=["resume=outputs/latest", "epochs=3"])
    assert repeat(copy) is None


def test_without_plots_there_is_no_page(tmp_path: Path) -> None:
    run = train_in(tmp_path, "data=iris", "model=mlp", "epochs=1", "plots=false")
    assert not (run / "report.html").exists()
    assert "Calibration" in Page(html(record.read(run))).texts  # what it needs is kept


# Looks at the page in a frame of a phone's width, and writes down what it finds.
FRAME = """<!doctype html><title>waiting</title><iframe width=375 height=800 src="{path}"></iframe><pre id=out></pre>
<script>
document.querySelector("iframe").addEventListener("load", event => {{
  const inside = event.target.contentDocument, found = {{}};
  found.width = inside.documentElement.scrollWidth;
  found.scripts = inside.scripts.length;
  found.bold = inside.querySelectorAll("b[onmouseover], img[onerror]").length;
  found.title = inside.title;
  const button = inside.querySelector("[aria-label=Classes] th:nth-child(4) button");
  button.click();
  const cells = [...inside.querySelectorAll("[aria-label=Classes] tbody td:nth-child(4)")];
  found.sorted = cells.map(cell => Number(cell.dataset.value));
  found.tabbable = [...inside.querySelectorAll("a, button, summary, [tabindex='0']")].length;
  document.getElementById("out").textContent = JSON.stringify(found);
}});
</script>"""


def test_in_a_real_browser(hundred: Path, tmp_path: Path, browse) -> None:
    run = Path(shutil.copytree(hundred, tmp_path / "run"))
    results = json.loads((run / "results.json").read_text())
    results["test"]["per_class"][0]["class"] = EVIL
    results["test"]["per_class"][1]["class"] = "a very long name of a class " * 8
    change(run / "results.json", **results)
    path = write_page(run)
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(path=path))
    found = json.loads(re.search(r'<pre id="out">(\{.*?\})</pre>', browse(frame))[1])
    assert found["width"] <= 375
    assert found["scripts"] == 1
    assert found["bold"] == 0
    assert found["title"].startswith("Run ")
    assert found["sorted"] == sorted(found["sorted"])
    assert found["tabbable"] > 20
