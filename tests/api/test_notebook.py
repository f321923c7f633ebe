"""Runs and sweeps in a notebook: a real kernel executes the cells, and their outputs are looked at."""

from __future__ import annotations

from typing import Any

import nbclient
import nbformat
import pytest

CELLS = {
    "train": "import trainer\nrun = trainer.train('data=iris', 'model=mlp', epochs=3, threads=1, batch_size=16)",
    "page": "run",
    "metrics": "run.metrics",
    "interrupted": """
import os, signal, torch

class Net(torch.nn.Linear):
    calls = 0
    def __init__(self, in_features, num_outputs):
        super().__init__(in_features, num_outputs)
    def forward(self, x):
        self.calls += self.training
        if self.calls == 20:
            os.kill(os.getpid(), signal.SIGINT)  # as the button does
        return super().forward(x)

stopped = trainer.train('data=iris', model={'_target_': '__main__.Net'}, batch_size=16, epochs=9)
stopped.status, stopped.results['steps']""",
    "continued": "Net.calls = 100\ntrainer.train(resume=stopped.folder, trust=True, quiet=True).status",
    "mistake": "trainer.train(epoch=3)",
}
SWEEP = "import trainer\nsweep = trainer.sweep('data=iris', 'model=mlp', 'optim.lr=1e-3,1e-2', epochs=2)\nsweep"


def executed(cells: dict[str, str]) -> dict[str, list[Any]]:
    """Return the outputs of each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells.values()])
    if "mistake" in cells:
        notebook.cells[list(cells).index("mistake")].metadata["tags"] = ["raises-exception"]
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return {name: cell.outputs for name, cell in zip(cells, notebook.cells, strict=True)}


def printed(outputs: list[Any]) -> str:
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_a_notebook() -> None:
    outputs = executed(CELLS)
    last = {name: those[-1].get("data", {}) for name, those in outputs.items() if those}
    text = printed(outputs["train"])
    assert "optimizer  AdamW" in text
    assert "test       loss" in text
    assert "\x1b" not in text
    (table,) = [o.data["text/html"] for o in outputs["train"] if o.output_type == "display_data"]
    assert table.count("<tr") == 4  # the names of the columns, and a row for each epoch
    assert "<progress" not in table  # removed at the end
    assert last["page"]["text/html"].startswith("<iframe sandbox=")
    assert last["metrics"]["text/html"].count("<tr>") == 4
    assert last["interrupted"]["text/plain"] == "('interrupted', 20)"
    assert last["continued"]["text/plain"] == "'completed'"
    assert (outputs["mistake"][-1].ename, outputs["mistake"][-1].evalue) == (
        *("UserError", "epoch: no such key. Did you mean epochs=3?"),
    )


@pytest.mark.exhaustive
def test_a_sweep_in_a_notebook() -> None:
    outputs = executed({"sweep": SWEEP, "frame": "sweep.leaderboard.to_frame()"})
    text = printed(outputs["sweep"])
    assert "rank  state" in text
    assert "\x1b" not in text
    assert "Jobs, best first" in outputs["sweep"][-1]["data"]["text/html"]
    assert "valid_loss" in outputs["frame"][-1]["data"]["text/html"]
