"""docs/example.ipynb as it is kept: executed from top to bottom, with nothing in it of the machine that did it."""

import json
from typing import Any

import pytest
from conftest import REPO

NOTEBOOK = REPO / "docs" / "example.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    if not NOTEBOOK.is_file():
        pytest.skip("no docs beside these tests (a wheel has none)")
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_every_cell_was_executed_in_order_without_errors_or_warnings(cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert "error" not in kinds
    assert "stream" not in kinds  # warnings come as these
    pictures = [output for cell in cells for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


def test_nothing_of_a_machine_is_kept(cells: list[dict[str, Any]]) -> None:
    text = json.dumps([{"source": c["source"], "outputs": c["outputs"]} for c in cells])
    assert not any(folder in text for folder in ("/home/", "/root", "/tmp", "/work", "/Users/", "site-packages"))
    assert NOTEBOOK.stat().st_size < 400_000
