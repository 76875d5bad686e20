"""The documentation says what is so: its commands run, its examples work, its links exist."""

from __future__ import annotations

import functools
import importlib
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import promptlab
from promptlab.cli import VERBS, module_of_verb
from promptlab.extras import EXTRAS
from tests.conftest import PAINT, ROOT, Project

DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str

    @property
    def commands(self) -> Iterator[list[str]]:
        """The promptlab commands in it, as a shell splits them."""
        for line in self.text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == "promptlab":
                yield words[1:]


def blocks_of(page: str) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))]


@pytest.fixture
def user(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A folder in which the packaged model is one that paints at once, with one run."""
    model = PAINT.replace("PaintModel", "VaryModel").format(name="tiny")
    project.write("conf/model/tiny.yaml", model)
    monkeypatch.setattr(
        promptlab, "sweep", functools.partial(promptlab.sweep, tracking=None), raising=False
    )
    monkeypatch.syspath_prepend(str(project.path))
    promptlab.sweep(subject="a first fox", seeds=2)
    return project


def run_command(user: Project, words: list[str]) -> None:
    """Run a command of a page; RUN and IMAGE_ID are the newest, with picks where it needs some."""
    needs_picks = bool({"--from-picks", "--picked"} & {*words})
    runs = [run for run in user.runs if not needs_picks or (run / "picks.parquet").exists()]
    run = str(runs[-1])
    image_id = user.rows()[0]["image_id"]
    words = [word.replace("IMAGE_ID", image_id) if word != "RUN" else run for word in words]
    if words[0] == "sweep" and not {"--resume", "--retry-failed"} & {*words}:
        words.append("tracking=null")
    if words[0] in ("vary", "upscale"):
        words.append("tracking=null")
    if words[0] in ("pick", "score"):
        words.append("--no-sync")
    from promptlab.cli import main

    user.capsys.readouterr()
    code = main(words)
    out, err = user.capsys.readouterr()
    assert code == 0, (words, out, err)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page in ("picking.md", "sweeps.md") else ())
        for page in PAGES
        if page != "grammar.md"
    ],
)
def test_a_page_works_from_top_to_bottom(user: Project, page: str):
    names: dict[str, object] = {}
    for block in blocks_of(page):
        if block.title:
            user.write(block.title, block.text)
        elif block.language == "console":
            for words in block.commands:
                run_command(user, words)
        elif block.language == "python":
            exec(compile(block.text, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_without_running_it_is_a_command(user: Project, page: str):
    for block in blocks_of(page):
        for words in block.commands if block.language == "sh" else ():
            verb, *arguments = words if words[:2] != ["queue", "add"] else ["sweep", *words[2:]]
            if verb == "sweep":
                arguments = [word.replace("FOLDER", ".") for word in arguments]
                if not any(word.startswith(("model.path", "model.workflow")) for word in arguments):
                    run_command(user, ["sweep", *arguments, "--plan"])
                continue
            parser = ArgumentParser(exit_on_error=False)
            importlib.import_module(f"promptlab.commands.{module_of_verb(verb)}").add_arguments(
                parser
            )
            parser.parse_intermixed_args(arguments)


def test_every_verb_and_every_public_name_is_on_a_page():
    text = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    assert [verb for verb in VERBS if f"promptlab {verb}" not in text] == []
    methods = [name for name in vars(promptlab.Run) if not name.startswith("_")]
    names = [name for name in promptlab.__all__ if name not in ("__version__", "Sheet")]
    assert [name for name in [*names, *methods] if name not in text] == []


def test_every_extra_is_listed_with_its_size():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for_developers = {"docs", "training", "test", "lint", "mutants", "dev"}
    extras = project["optional-dependencies"].keys() - for_developers
    assert {extra.name for extra in EXTRAS} == extras
    page = (DOCS / "index.md").read_text(encoding="utf-8").replace("`", "")
    rows = [f"| {extra.name} | {extra.purpose} | {extra.megabytes} MB |" for extra in EXTRAS]
    assert [row for row in rows if row not in page] == []


def test_the_generated_parts_are_what_the_code_says():
    build = runpy.run_path(str(DOCS / "build.py"))
    assert (DOCS / "files.md").read_text(encoding="utf-8") == build["write_files_page"]()
    assert (DOCS / "colab.ipynb").read_text(encoding="utf-8") == build["build_notebook"]()


GALLERY = runpy.run_path(str(ROOT / "reports" / "build.py"))


@pytest.mark.parametrize("sheet", GALLERY["SHEETS"], ids=lambda sheet: sheet.name)
def test_the_commands_of_a_published_sheet_are_commands(user: Project, sheet: Any):
    drawing, *others = (shlex.split(command)[1:] for command in sheet.commands)
    run_command(user, [*drawing, "--plan"])
    for verb, *words in others:
        parser = ArgumentParser(exit_on_error=False)
        importlib.import_module(f"promptlab.commands.{module_of_verb(verb)}").add_arguments(parser)
        assert parser.parse_intermixed_args(words).publish == sheet.name


@pytest.mark.parametrize(
    ("page", "write"), [("index.html", "write_index"), ("README.md", "write_readme")]
)
def test_the_gallery_is_what_its_table_says_and_links_to_what_exists(page: str, write: str):
    text = (ROOT / "reports" / page).read_text(encoding="utf-8")
    assert text == GALLERY[write]()
    targets = re.findall(r"""(?:href|src)="([^"]+)"|\]\(([^)]+)\)""", text)
    links = [in_html or in_markdown for in_html, in_markdown in targets]
    paths = [ROOT / "reports" / link for link in links if not link.startswith("data:")]
    assert len(paths) > len(GALLERY["SHEETS"])
    assert [path for path in paths if not path.is_file()] == []


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On the embedded model; cells for Colab, a GPU or a download are marked and left out."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs notebooks")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(DOCS / "colab.ipynb", as_version=4)
    nbformat.validate(notebook)
    elsewhere = {"install", "gpu", "download", "colab"}
    notebook.cells = [c for c in notebook.cells if not elsewhere & {*c.metadata.get("tags", ())}]
    client = nbclient.NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [out.data for c in notebook.cells for out in c.get("outputs", ()) if "data" in out]
    told = "".join(str(out.get("text", "")) for c in notebook.cells for out in c.get("outputs", ()))
    assert "18/18" in told, "the bar of the first sweep"
    assert any("18 images" in data.get("text/plain", "") for data in shown)
    assert any("<iframe srcdoc=" in data.get("text/html", "") for data in shown)
    assert any("image/png" in data for data in shown)


def test_the_site_is_built_and_every_link_in_it_leads_somewhere(tmp_path: Path):
    pytest.importorskip("zensical", reason="the extra promptlab[docs] is not installed")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    shutil.copytree(DOCS, tmp_path / "docs")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "build" / "site" / "index.html").exists()
