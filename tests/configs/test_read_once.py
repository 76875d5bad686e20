from __future__ import annotations

import copy
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from omegaconf import OmegaConf

from promptlab.configs.locations import packaged_conf
from promptlab.configs.read_once import FilesReadOnce, read_files_once
from tests.conftest import Project


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The YAML files that are parsed from now on."""
    parsed = []
    load = OmegaConf.load

    def note(file):
        parsed.append(str(getattr(file, "name", file)))
        return load(file)

    monkeypatch.setattr(OmegaConf, "load", note)
    return parsed


@pytest.fixture
def files(tmp_path: Path, hydra_restore_singletons: None) -> FilesReadOnce:
    """A folder with one config, a.yaml."""
    (tmp_path / "a.yaml").write_text("defaults:\n  - _self_\nx: 1\nlist: [1, 2]\n")
    return open_files(tmp_path)


def open_files(folder: Path) -> FilesReadOnce:
    """Return the files as the next command sees them."""
    return FilesReadOnce(create_config_search_path(str(folder)))


def test_a_file_is_parsed_once_for_all_that_ask(files, tmp_path, loads):
    every = (files, files, open_files(tmp_path), copy.deepcopy(files))
    found = [each.load_config("a").config for each in every]
    assert loads == [str(tmp_path / "a.yaml")]
    assert found == [{"x": 1, "list": [1, 2]}] * 4


def test_what_is_done_to_a_config_is_done_to_no_other(files, tmp_path):
    first = files.load_config("a")
    first.config.x = 2
    first.config.list.append(3)
    first.defaults_list.clear()
    for second in (files.load_config("a"), open_files(tmp_path).load_config("a")):
        assert second.config == {"x": 1, "list": [1, 2]}
        assert len(second.defaults_list) == 1


@pytest.mark.parametrize("with_same_size", [True, False])
def test_a_file_that_has_changed_is_read_again(files, tmp_path, with_same_size):
    files.load_config("a")
    file = tmp_path / "a.yaml"
    before = file.stat()
    file.write_text("x: 3\n" if not with_same_size else file.read_text().replace("1", "3"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + with_same_size))
    assert open_files(tmp_path).load_config("a").config.x == 3
    replaced = tmp_path / "b"
    replaced.write_text(file.read_text().replace("3", "4"))
    os.utime(replaced, ns=(before.st_atime_ns, file.stat().st_mtime_ns))
    replaced.rename(file)
    assert open_files(tmp_path).load_config("a").config.x == 4
    file.unlink()
    assert open_files(tmp_path).load_config("a") is None


def test_the_jobs_of_one_sweep_see_a_file_as_it_was_at_first(files, tmp_path):
    assert files.load_config("a").config.x == 1
    (tmp_path / "a.yaml").write_text("x: a text of another length\n")
    assert copy.deepcopy(files).load_config("a").config.x == 1
    (tmp_path / "a.yaml").unlink()
    assert files.load_config("a").config.x == 1
    files.initialize_sources(create_config_search_path(str(tmp_path)))
    assert files.load_config("a") is None


def test_the_first_folder_that_has_a_file_gives_it(tmp_path, hydra_restore_singletons):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(f"x: {name}\n")
    path = create_config_search_path(str(tmp_path / "one"))
    path.append("more", f"file://{tmp_path / 'two'}", anchor="main")
    assert FilesReadOnce(path).load_config("a").config.x == "one"
    (tmp_path / "one/a.yaml").unlink()
    assert FilesReadOnce(path).load_config("a").config.x == "two"


def test_a_style_of_a_table_that_has_changed_is_the_new_one(project: Project):
    row = "name,prompt,negative_prompt\nneon,{prompt} in COLOR,\n"
    for color in ("red", "blue"):
        project.write("conf/style/mine.csv", row.replace("COLOR", color))
        assert project.run("sweep", "subject=a fox", "style=mine/neon").code == 0
    assert {row["prompt"] for run in project.runs for row in project.rows(run)} == {
        "a fox in red",
        "a fox in blue",
    }


def test_sweeps_and_configs_of_a_project_are_parsed_once_until_they_change(project: Project, loads):
    project.write("sweeps/mine.yaml", "# @package _global_\nsubject: a fox\n")
    project.write("conf/style/x.yaml", "# @package style\npattern: '{prompt} in ink'\n")
    arguments = ("sweep", "+sweeps=mine", "style=x")
    assert project.run(*arguments).code == 0
    assert {"mine.yaml", "x.yaml", "paint.yaml"} <= {os.path.basename(file) for file in loads}
    loads.clear()
    assert project.run(*arguments, "subject=an owl").code == 0
    assert not [file for file in loads if file.endswith(("mine.yaml", "x.yaml", "paint.yaml"))]
    project.write("sweeps/mine.yaml", "# @package _global_\nsubject: a cat\n")
    project.write("conf/style/x.yaml", "# @package style\npattern: '{prompt} in oil'\n")
    assert project.run(*arguments).code == 0
    assert [row["prompt"] for row in project.rows()] == ["a cat in oil"]


def test_another_loader_than_hydras_is_left_as_it_is():
    stock = ConfigLoaderImpl(create_config_search_path(packaged_conf()))
    read_files_once(stock)
    assert type(stock.repository) is FilesReadOnce
    other = SimpleNamespace(repository="its own")
    read_files_once(other)
    assert other.repository == "its own"


def test_a_config_of_a_package_that_has_changed_is_read_again(
    tmp_path, monkeypatch, loads, hydra_restore_singletons
):
    package = tmp_path / "package_of_configs"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for text in ("x: 1\n", "x: 2\n", "x: 3 # longer\n"):
        (package / "a.yaml").write_text(text)
        os.utime(package / "a.yaml", ns=(0, 0))
        files = [FilesReadOnce(create_config_search_path("pkg://package_of_configs")) for _ in "ab"]
        found = [each.load_config("a").config.x for each in files]
        assert found == [int(text[3])] * 2
    assert len(loads) == 3


def test_a_row_of_a_table_is_looked_up_once_a_sweep(project: Project, monkeypatch):
    from promptlab.configs import own_files

    project.write("conf/style/mine.csv", "name,prompt\na,{prompt} in a\nb,{prompt} in b\n")
    read = []
    read_styles = own_files.read_styles
    monkeypatch.setattr(own_files, "read_styles", lambda file: read.append(1) or read_styles(file))
    counts = []
    for subjects in ("a fox", "a fox,an owl,a cat,a dog"):
        read.clear()
        done = project.run("sweep", "-m", f"subject={subjects}", "style=mine/a,mine/b", "--plan")
        assert done.code == 0, done.err
        counts.append(len(read))
    assert counts[0] == counts[1]
    assert counts[0] < 30
