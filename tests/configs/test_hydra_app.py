"""Hydra is started without marks on the process; its jobs can be had without running them."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf.basecontainer import BaseContainer

from promptlab.configs.hydra_app import compose_jobs, run_hydra
from promptlab.configs.settings import Job
from promptlab.configs.vocabulary import list_options
from promptlab.errors import ConfigError
from tests.conftest import ROOT, Project

GRID = ["-m", "model=paint", "subject=a fox,a robot", "style=noto,openmoji", "temperature=0.5,1"]


def process_state() -> dict[str, object]:
    """All that Hydra keeps once a process, and what a program of its own would change."""
    root = logging.getLogger()
    return {
        "app": GlobalHydra.instance().hydra,
        "config": HydraConfig.instance().cfg,
        "version": VersionBase.instance().version_base,
        "name": JobRuntime.instance().conf,
        "resolvers": dict(BaseContainer._resolvers),
        "argv": list(sys.argv),
        "stderr": sys.stderr,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "log": (root.level, list(root.handlers), logging.getLogger("promptlab").level),
    }


@pytest.mark.parametrize("arguments", [GRID, ["model=paint", "subject=a fox"]], ids=["many", "one"])
def test_jobs_are_composed_twice_in_one_process_and_nothing_of_hydra_stays(
    project: Project, arguments: list[str]
):
    before, files = process_state(), sorted(project.path.rglob("*"))
    first, second = compose_jobs(arguments), compose_jobs(arguments)
    assert first == second
    assert process_state() == before
    assert sorted(project.path.rglob("*")) == files


def test_a_command_that_fails_leaves_nothing_of_hydra_either(project: Project):
    before = process_state()
    with pytest.raises(ConfigError, match="Unknown style"):
        compose_jobs(["subject=a", "style=notto"])
    assert process_state() == before


def test_a_sweep_leaves_argv_environment_and_stderr_alone(project: Project):
    before = process_state()
    assert project.run("sweep", "subject=a fox", "--plan").code == 0
    assert project.run("sweep", "subject=", "--plan").code == 1
    after = process_state()
    for key in ("app", "config", "version", "name", "resolvers", "argv", "environment", "folder"):
        assert after[key] == before[key], key


def test_the_jobs_are_those_that_a_sweep_draws(project: Project):
    assert project.run("sweep", *GRID).code == 0
    drawn = [(r["subject"], r["style"], r["temperature"]) for r in project.rows()]
    jobs = compose_jobs(GRID)
    assert [
        (j.config["subject"], j.choices["style"], j.config["temperature"]) for j in jobs
    ] == drawn
    assert [job.number for job in jobs] == list(range(8))


def test_jobs_are_composed_in_a_child_process_and_handed_back(project: Project):
    code = (
        "import pickle, sys; from promptlab.configs.hydra_app import compose_jobs; "
        f"sys.stdout.buffer.write(pickle.dumps(compose_jobs({GRID!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert pickle.loads(done.stdout) == compose_jobs(GRID)
    assert done.stderr == b""


def test_bases_come_before_each_jobs_own_overrides(project: Project):
    bases = [["subject=a fox"], ["subject=a robot", "style=noto"]]
    jobs = compose_jobs(["model=paint", "top_k=1,2"], bases)
    found = [(j.config["subject"], j.choices["style"], j.config["top_k"]) for j in jobs]
    assert found == [
        ("a fox", "none", 1),
        ("a fox", "none", 2),
        ("a robot", "noto", 1),
        ("a robot", "noto", 2),
    ]


def test_a_models_own_parameter_needs_no_line_in_its_config(project: Project):
    project.write(
        "conf/model/bare.yaml",
        "# @package _global_\n# Bare.\nmodel:\n  _target_: tests.painters.PaintModel\n",
    )
    done = project.run("sweep", "-m", "model=bare", "subject=a", "temperature=0.5,1", "top_k=3")
    assert done.code == 0, done.err
    assert [row["temperature"] for row in project.rows()] == [0.5, 1.0]
    project.write(
        "sweeps/mine.yaml",
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {top_k: '5,6'}}}\n",
    )
    assert project.run("sweep", "model=bare", "+sweeps=mine", "subject=b").code == 0
    assert [row["top_k"] for row in project.rows()] == [5, 6]


def test_a_group_of_ones_own_is_chosen_and_not_set(project: Project):
    project.write("conf/light/fog.yaml", "# @package _global_\nwhere: in fog")
    project.write("more/light/sun.yaml", "# @package _global_\nwhere: in the sun")
    for arguments, prompt in (
        (["+light=fog"], "a fox in fog"),
        (["+light=sun", f"hydra.searchpath=[file://{project.path}/more]"], "a fox in the sun"),
    ):
        pattern = "template.pattern='{subject} {where}'"
        done = project.run("sweep", "subject=a fox", pattern, *arguments)
        assert done.code == 0, done.err
        assert [row["prompt"] for row in project.rows()] == [prompt]


def test_a_group_of_ones_own_in_a_named_sweep_is_chosen_like_any_other(project: Project):
    for folder, light in (("conf", "fog"), ("more", "sun")):
        project.write(f"{folder}/light/{light}.yaml", f"# @package _global_\nwhere: {light}\n")
    defaults = "# @package _global_\ndefaults: [{{/light: {0}}}]\nsubject: {0}\n"
    project.write("sweeps/foggy.yaml", defaults.format("fog"))
    project.write("conf/light/rain.yaml", "# @package _global_\nwhere: rain\n")
    (job,) = compose_jobs(["model=paint", "+sweeps=foggy", "light=rain"])
    assert (job.choices["light"], job.config["where"]) == ("rain", "rain")
    shutil.rmtree(project.path / "conf" / "light")
    project.write("sweeps/sunny.yaml", defaults.format("sun"))
    project.write("more/light/snow.yaml", "# @package _global_\nwhere: snow\n")
    searched = f"hydra.searchpath=[file://{project.path}/more]"
    (job,) = compose_jobs(["model=paint", "+sweeps=sunny", "light=snow", searched])
    assert job.config["where"] == "snow"


def test_the_command_line_counts_more_than_the_axes_of_a_named_sweep(project: Project):
    params = "{subject: a fox, style: 'noto,openmoji', n: 010}"
    project.write(
        "sweeps/mine.yaml",
        f"# @package _global_\nhydra: {{mode: MULTIRUN, sweeper: {{params: {params}}}}}\n",
    )
    jobs = compose_jobs(["model=paint", "+sweeps=mine", "subject=a cat"])
    found = [(job.config["subject"], job.choices["style"], job.config["n"]) for job in jobs]
    assert found == [("a cat", "noto", "010"), ("a cat", "openmoji", "010")]


def test_a_further_folder_of_configs_adds_to_ones_own(project: Project):
    project.write("conf/style/noto.yaml", "pattern: '{prompt} of conf'\n")
    for style in ("noto", "mine"):
        project.write(f"more/style/{style}.yaml", "pattern: '{prompt} of more'\n")
    arguments = ["-m", "model=paint", "subject=x", "style=noto,mine", "--config-dir", "more"]
    patterns = [job.config["style"]["pattern"] for job in compose_jobs(arguments)]
    assert patterns == ["{prompt} of conf", "{prompt} of more"]


def test_a_star_of_a_glob_stays_in_its_folder(project: Project):
    glob = "glob([*o*,art/m*],exclude=[n*,art/*t])"
    jobs = compose_jobs(["-m", "model=paint", "subject=x", f"style={glob}"])

    def is_meant(style: str) -> bool:
        folder, _, name = style.rpartition("/")
        if folder == "art":
            return name.startswith("m") and not name.endswith("t")
        return not folder and "o" in name and not name.startswith("n")

    meant = {style for style in list_options("style") if is_meant(style)}
    assert {"openmoji", "art/monet"} & meant
    assert sorted(job.choices["style"] for job in jobs) == sorted(meant)


class Numbering:
    """A task that keeps which jobs it was given."""

    bases: ClassVar = (("subject=a",), ("subject=b",))

    def __init__(self) -> None:
        self.given: list[list[tuple[int, object, object]]] = []

    def __call__(self, config: object) -> None:
        """Never called: there is a multirun."""
        raise AssertionError

    def run_jobs(self, jobs: Sequence[Job]) -> Mapping[int, str]:
        """Keep the numbers, the subjects and the values of an axis."""
        self.given.append([(j.number, j.config["subject"], j.config["top_k"]) for j in jobs])
        return {}


def test_the_jobs_of_several_batches_have_numbers_of_their_own(project: Project):
    task = Numbering()
    run_hydra(task, ["-m", "model=paint", "top_k=1,2", "hydra.sweeper.max_batch_size=1"])
    assert task.given == [[(0, "a", 1), (1, "b", 1)], [(2, "a", 2), (3, "b", 2)]]


def test_configs_written_while_the_process_lives_are_seen(project: Project):
    """As a server's users write them."""
    with pytest.raises(ConfigError):
        compose_jobs(["model=paint", "subject=a", "template=new", "depth=deep"])
    project.write("conf/template/new.yaml", 'pattern: "{subject} {depth}"')
    (job,) = compose_jobs(["model=paint", "subject=a", "template=new", "depth=deep"])
    assert job.config["depth"] == "deep"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-m", "--cfg", "job"], "--multirun and --cfg"),
        (["--resolve"], "--resolve: expected together with --cfg"),
        (["--config-dir", "nowhere"], "nowhere: expected a folder"),
    ],
)
def test_flags_that_do_not_fit_are_one_message(project: Project, flags: list[str], words: str):
    done = project.run("sweep", "subject=a", *flags)
    assert done.code == 1
    assert words in done.err
    assert "Traceback" not in done.err
