"""The notebook of the docs runs from its first cell to its last."""

import nbformat
import pytest
from nbclient import NotebookClient
from test_docs import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
MAX_BYTES = 200_000


def run(notebook, folder):
    """The notebook with its outputs, run in a folder by the interpreter of the tests."""
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)  # of the Ray of other tests
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run(nbformat.read(NOTEBOOK, as_version=4), tmp_path)


def test_it_has_outputs_without_errors_and_is_small():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in cells) >= 10
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    assert NOTEBOOK.stat().st_size < MAX_BYTES
