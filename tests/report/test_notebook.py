"""The table of epochs in a notebook."""

from __future__ import annotations

from trainer.report.notebook import MOST_ROWS, NotebookTable


def test_the_table_is_escaped_and_bounded() -> None:
    table = NotebookTable()
    table.drawn = float("inf")  # nothing is drawn: there is no notebook
    for number in range(MOST_ROWS + 5):
        table.row(["epoch", "<b>"], [str(number), "<script>"], best=number == MOST_ROWS)
    table.progress(3, 10, "epoch 1, 5 samples/s")
    html = table.html()
    assert html.count("<tr") == MOST_ROWS + 1
    assert "<td>4</td>" not in html
    assert f"<td>{MOST_ROWS + 4}</td>" in html
    assert "<script>" not in html
    assert "<b>" not in html
    assert html.count("font-weight") == 1
    assert '<progress value="3" max="10"' in html
