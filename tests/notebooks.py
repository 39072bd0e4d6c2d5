"""Execute the notebooks of examples/ in a folder of their own.

`python -m tests.notebooks` stores their outputs anew, after a change that shows in them.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.e2e.command import environment

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


WITHOUT_OPENVINO = "import sys; sys.modules['openvino_genai'] = None\n"
"""What is stored is what llama.cpp answers, which most readers have."""


def read(path: Path) -> NotebookNode:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


def execute(path: Path, folder: Path) -> NotebookNode:
    """Return a notebook with the outputs that it has now."""
    shutil.copy(EXAMPLES / "responses.jsonl", folder)
    notebook = read(path)
    start = folder / "start"
    start.mkdir()
    (start / "sitecustomize.py").write_text(WITHOUT_OPENVINO)
    variables = environment(
        folder,
        COLUMNS="80",
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        PYTHONPATH=os.pathsep.join(filter(None, (str(start), os.environ.get("PYTHONPATH")))),
    )
    client = NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=variables)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


if __name__ == "__main__":
    for name in NOTEBOOKS:
        with TemporaryDirectory() as place:
            nbformat.write(execute(name, Path(place)), name)
