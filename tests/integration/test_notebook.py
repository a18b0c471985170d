"""docs/example.ipynb, executed anew in a Jupyter kernel (extra: notebook)."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install '.[notebook]'")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.integration
NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "example.ipynb"


def test_the_example_runs_and_shows_what_it_shows(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = [[output.output_type for output in cell.get("outputs", [])] for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises CellExecutionError where a cell fails
    shown = [[o.output_type for o in cell.get("outputs", []) if o.output_type != "stream"] for cell in notebook.cells]
    assert shown == kept
    tables = [o.data["text/plain"] for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
    assert any("land_cover_confidence" in text for text in tables)
    assert any("hectares" in text for text in tables)
