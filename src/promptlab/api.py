"""promptlab from Python: draw a sweep, open a run, look at its sheet in a notebook.

Takes the keys of the command line as keyword arguments; returns a Run. It composes the same jobs
and calls the same flow as `promptlab sweep`, so ids, run folders and resuming are the same. Prints
nothing but the progress of drawing.
"""

from __future__ import annotations

import html
import io
import re
import tempfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.errors import ConfigError, ReportError

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from promptlab.store.reader import Run as StoredRun
    from promptlab.verdicts import Pick

MAX_SHEET_MB = 20  # of a sheet inside a notebook: it is saved with the notebook
_FRAME_PX = 720  # height of a sheet in a notebook
_FUNCTION = re.compile(r"(glob|choice|range|interval|sort|shuffle)\(.*\)")  # of Hydra's grammar


def sweep(*names: str, from_picks: Run | str | None = None, **values: Any) -> Run:
    """Draw a sweep and return its run; what is drawn already is not drawn again.

    `names` are named sweeps (`sweeps/NAME.yaml`). `values` are the keys of the command line, from
    `subject` and `style` to any sampling parameter. A list is an axis: its values are crossed with
    those of all other axes. `seeds`, and keys whose value is a list by itself (`zip`, `only`,
    `exclude`, `with`), take it whole. `from_picks` draws only what descends from the picks of an
    earlier run. Keys with a dot are given as `**{"model.path": "…"}`.

    Images that cannot be drawn are rows with an error. Raises PromptlabError for everything else.

    >>> run = promptlab.sweep(subject=["a fox", "a robot"], style=["noto", "openmoji"], seeds=4)
    """
    from promptlab.configs.hydra_app import compose_jobs
    from promptlab.flow.earlier import lineage_of_picks
    from promptlab.flow.sweep import Invocation, run_sweep

    arguments = arguments_of(names, values)
    if from_picks is None:
        jobs, argv, lineage = compose_jobs(arguments), arguments, None
    else:
        folder = from_picks.path if isinstance(from_picks, Run) else fspath(from_picks)
        lineage = lineage_of_picks(folder, arguments)
        argv = ["--from-picks", folder, *arguments]
        jobs = compose_jobs(arguments, lineage.bases)
    outcome = run_sweep(jobs, Invocation(argv=tuple(argv), lineage=lineage))
    assert outcome.paths is not None  # only a plan has none
    return open_run(outcome.paths.root)


def open_run(path: str | PathLike[str] | None = None, runs_dir: str = "runs") -> Run:
    """Return the run of a folder or URL, by default the newest run below `runs_dir`.

    Raises StoreError if there is none.
    """
    from promptlab.store import newest_run, read_run

    return Run(read_run(newest_run(runs_dir) if path is None else fspath(path)))


def show_sheet(run: Run | str | PathLike[str] | None = None) -> None:
    """Show a run's contact sheet in a notebook, by default that of the newest run.

    Verdicts given there are not kept by the notebook: save them on the sheet, and read them with
    `promptlab pick --import`.
    """
    from IPython.display import display

    display((run if isinstance(run, Run) else open_run(run)).sheet())


def arguments_of(names: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    """Return the arguments of `promptlab sweep` that mean the same as `sweep`'s."""
    from promptlab.configs.settings import KEYS

    overrides = [f"+sweeps={name}" for name in names]
    is_multirun = False
    for key, value in values.items():
        kind = KEYS.get(key.split(".")[0], "axis")
        is_axis = isinstance(value, list | tuple) and kind in (
            *("axis", "text", "pattern", "model", "parent"),
        )
        items = list(value) if is_axis else [value]
        if not items:
            raise ConfigError(f"{key}=[]: expected at least one value.")
        texts = [_override_value(item, is_choice=kind in ("pattern", "model")) for item in items]
        is_multirun |= len(items) > 1 or bool(_FUNCTION.fullmatch(texts[0]))
        overrides.append(f"{key}={','.join(texts)}")
    return ["--multirun", *overrides] if is_multirun else overrides


def _override_value(value: Any, *, is_choice: bool) -> str:
    from promptlab.planning.redraw import hydra_value

    if is_choice and isinstance(value, str) and _FUNCTION.fullmatch(value):
        return value
    if isinstance(value, range):
        value = list(value)
    if isinstance(value, Run):
        value = value.path
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if not isinstance(value, str | int | float | bool | None | Mapping | list | tuple | PathLike):
        raise ConfigError(f"Expected texts, numbers, lists or mappings, got {value!r}.")
    return hydra_value(fspath(value) if isinstance(value, PathLike) else value)


class Run:
    """A run folder, as of the last look: its rows, images, picks and contact sheet."""

    def __init__(self, stored: StoredRun) -> None:
        self._stored = stored

    def __repr__(self) -> str:
        rows = self._stored.table(["status"])["status"].to_pylist()
        failed = rows.count("failed")
        ending = f", {failed:,} failed" if failed else ""
        return f"<promptlab run {self.path}: {len(rows) - failed:,} images{ending}>"

    @cached_property
    def path(self) -> str:
        """Path or URL of the run folder."""
        return self._stored.paths.root

    def table(self) -> pd.DataFrame:
        """Return one row an image, failed ones included, in the order of drawing.

        Columns are those of images.parquet without the image bytes; `path` is the PNG's, relative
        to the run folder.
        """
        self._stored.refresh()
        return self._stored.table().to_pandas()

    def image(self, image_id: str) -> Image.Image:
        """Return an image by its id, or the beginning of it; raises ReportError for another."""
        from PIL import Image

        ids = self._stored.table(["image_id", "path"]).to_pylist()
        found = {row["image_id"] for row in ids if row["image_id"].startswith(image_id)}
        if len(found) != 1:
            raise ReportError(
                f"{image_id!r}: expected the id of one image of {self.path}, or the beginning of "
                f"it; {len(found)} images match. The column image_id of table() holds the ids."
            )
        png = self._stored.image_bytes(found.pop())
        if png is None:
            raise ReportError(f"The image {image_id} of {self.path} failed, or its file is gone.")
        image = Image.open(io.BytesIO(png))
        image.load()
        return image

    @property
    def picks(self) -> list[Pick]:
        """The current verdicts on the run's images, those of several people combined."""
        from promptlab.verdicts import current_picks

        return list(current_picks(self.path).values())

    def best(self, n: int = 1, sort: str | None = None) -> pd.DataFrame:
        """Return the rows of the n best images: by the picks, then by a score.

        `sort` names the score, by default the first one. Rejected and failed images are left out.
        """
        from promptlab.report.best import order_by_liking
        from promptlab.report.data import collect

        self._stored.refresh()
        data = collect([self._stored], sort)
        rejected = {pick.image_id for pick in data.picks if pick.is_reject}
        ids = dict.fromkeys(
            data.image_ids[data.image_of_row[row]]
            for row in order_by_liking(data, range(data.num_rows))
            if data.has_image[row]
        )
        best = [image_id for image_id in ids if image_id not in rejected][:n]
        table = self.table().drop_duplicates("image_id").set_index("image_id", drop=False)
        return table.loc[best].reset_index(drop=True)

    def sheet(self) -> Sheet:
        """Return the contact sheet, built anew; a notebook shows it by itself."""
        from promptlab.report import write_contact_sheet

        return Sheet(self.path, write_contact_sheet(self.path).index_html)


class Sheet:
    """A run's contact sheet: a page of its own, and what a notebook shows of it."""

    def __init__(self, run_path: str, path: str) -> None:
        self.path = path  # of index.html
        self._run_path = run_path

    def __repr__(self) -> str:
        return f"<contact sheet {self.path}>"

    def _repr_html_(self) -> str:
        from promptlab.report import write_standalone

        with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
            written = write_standalone(
                self._run_path, Path(folder, "sheet.html"), max_mb=MAX_SHEET_MB
            )
            page = Path(written).read_text(encoding="utf-8") if written else None
        if page is None:
            return f"<p>The sheet is too large for a notebook: open {html.escape(self.path)}</p>"
        # Without allow-same-origin the page, which holds other people's prompts, reaches nothing
        # of the notebook.
        return (
            f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts allow-downloads" '
            f'style="width: 100%; height: {_FRAME_PX}px; border: 0"></iframe>'
        )
