"""`trainer init`: copies all of conf/, overwrites nothing, and the copies take effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config.catalog import shipped_conf


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.yaml")}


def test_everything_is_copied_but_the_root(verb) -> None:
    done = verb("init")
    assert done.code == 0
    assert "conf/README.md" in done.out
    assert files(Path("conf")) == files(shipped_conf())
    assert not Path("conf/config.yaml").exists()
    note = Path("conf/README.md").read_text()
    assert note.index("the command line") < note.index("--config-dir DIR") < note.index("shipped files")


def test_only_some_groups(verb) -> None:
    assert verb("init", "models", "optim").code == 0
    assert sorted(path.name for path in Path("conf").iterdir()) == ["README.md", "model", "optim"]
    assert verb("init", "loss").code == 0
    assert Path("conf/loss/mse.yaml").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_overwritten(kind: str, verb) -> None:
    Path("conf/model").mkdir(parents=True)
    mine, outside = Path("conf/model/lenet5.yaml"), Path("outside.yaml")
    outside.write_text("mine")
    mine.write_text("mine") if kind == "file" else mine.symlink_to(outside.resolve())
    done = verb("init")
    assert done.code == 2
    err = done.err
    assert "conf/model/lenet5.yaml: it exists already; nothing is overwritten" in err
    assert err.count("\n") == 1
    assert list(files(Path("conf"))) == ["model/lenet5.yaml"]
    assert outside.read_text() == mine.read_text() == "mine"


def test_a_file_called_conf(verb) -> None:
    Path("conf").write_text("")
    done = verb("init")
    assert done.code == 2
    assert "not a folder" in done.err


def test_an_unknown_group(verb) -> None:
    done = verb("init", "modell")
    assert done.code == 2
    assert "no such group" in done.err
    assert "runs" not in done.err  # a word of `trainer list`
    assert not Path("conf").exists()


def test_what_was_copied_counts(job, verb) -> None:
    assert verb("init").code == 0
    path = Path("conf/optim/adamw.yaml")
    path.write_text(path.read_text().replace("lr: 1e-3", "lr: 0.25").replace("lr: 0.001", "lr: 0.25"))
    assert job("optim=adamw").config.optim.arguments["lr"] == 0.25
    assert job("optim=adamw", "optim.lr=0.5").config.optim.arguments["lr"] == 0.5
