"""Write the generated parts of the documentation: `python docs/build.py`.

Takes the code's own tables and docs/colab.py, writes docs/files.md and docs/colab.ipynb. A test
says when they are out of date.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from promptlab.records import CELL_COLUMNS, FACT_COLUMNS, ROW_COLUMNS
from promptlab.store.schema import SCHEMA_VERSION

HERE = Path(__file__).parent
COLUMNS = {
    "image_id": "hash of all that determines the image",
    "cell_id": "hash of the cell: all that determines its images but for the seed",
    "sweep": "name of the sweep",
    "job_id": "number of the first Hydra job that asked for the cell",
    "subject": "what the picture shows",
    "style": "name of the style, `none` without one",
    "template": "name of the template",
    "prompt": "the text that the model read",
    "seed": "seed of the image",
    "model": "name of the model",
    "model_fingerprint": "hash of the model's weights",
    "arm_id": "hash of what tells MLflow runs apart: everything but subject and seed",
    "params": "JSON of all sampling parameters, defaults filled in",
    "parent_ids": "image_ids of the picks that the cell descends from",
    "status": "`ok`, `flagged` (kept, looks wrong) or `failed`",
    "error": "why it failed or is flagged",
    "width": "px; null if it failed",
    "height": "px; null if it failed",
    "sha256": "hash of the pixels (RGB, row by row)",
    "prompt_truncated": "whether the model read less than the whole prompt",
    "unseen": "what the model did not see of the prompt",
    "seconds": "the image's share of its batch's time",
    "cost_usd": "what it cost in US dollars; null: nothing",
    "batch_size": "images drawn together",
    "device": "kind of device: `cpu`, `cuda`, …",
    "dtype": "number format",
    "numerics": "what the bits depend on besides the request",
    "created_at": "when it was drawn, UTC",
    "source_id": "image_id of the image that it was drawn from",
    "source_sha256": "hash of that image's pixels",
    "is_source_repeatable": "whether that image's model promises to draw it again; null: no source",
}
PAGE = """\
# Files and schema

*Generated from the code by `docs/build.py`.*

## A run folder

| file | what |
|---|---|
| `images/…png` | one file an image; prompt, seed and parameters are inside |
| `images.parquet/` | one row an image; parts that are only ever added or merged |
| `sweep.yaml` | the command, the resolved config, axes, versions, hardware |
| `picks.parquet` | people's verdicts: every one that was ever given |
| `scores.parquet` | programs' verdicts |
| `index.html`, `contact_sheet.png` | the contact sheet; `sheet/` beside it for large ones |
| `sweep.log` | what the run printed |

A folder that is being written is readable at any moment: a file appears whole or not at all, and a
row is there once its PNG is on disk.

## images.parquet

Schema version {version}. A part that was written without a column reads as null there. The column
`image` holds the PNG's bytes and its path, as Hugging Face `datasets` expects it. Each axis beyond
these has a column of its own: `temperature`, `action`, …

| column | type | what | from |
|---|---|---|---|
{rows}

```python
from pathlib import Path

import pyarrow.dataset

newest = max(Path("runs").iterdir())
images = pyarrow.dataset.dataset(newest / "images.parquet", format="parquet")
rows = images.to_table(columns=["image_id", "prompt", "seed"])
```
"""


def write_files_page() -> str:
    """Return the page on files, with the columns as the code has them."""
    rows = []
    for name, kind in ROW_COLUMNS.items():
        origin = "cell" if name in CELL_COLUMNS else "image" if name in FACT_COLUMNS else "both"
        rows.append(f"| `{name}` | `{kind}` | {COLUMNS[name]} | {origin} |")
    return PAGE.format(version=SCHEMA_VERSION, rows="\n".join(rows))


def build_notebook() -> str:
    """Return the notebook of docs/colab.py: `# %%` begins a cell, `# !` a shell command."""
    source = (HERE / "colab.py").read_text(encoding="utf-8")
    cells = [_cell(number, part) for number, part in enumerate(source.split("# %%")[1:])]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, part: str) -> dict[str, Any]:
    head, _, body = part.partition("\n")
    is_text = "[markdown]" in head
    prefix = r"^# ?" if is_text else r"^# (?=!)"
    lines = re.sub(prefix, "", body.strip(), flags=re.MULTILINE).splitlines(keepends=True)
    tags = json.loads(head.partition("tags=")[2] or "[]")
    cell = {"id": f"cell-{number}", "metadata": {"tags": tags}, "source": lines}
    if is_text:
        return {"cell_type": "markdown", **cell}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **cell}


if __name__ == "__main__":
    (HERE / "colab.ipynb").write_text(build_notebook(), encoding="utf-8")
    (HERE / "files.md").write_text(write_files_page(), encoding="utf-8")
