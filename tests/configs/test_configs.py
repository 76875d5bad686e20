"""Every packaged config composes, reads well and says what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from promptlab.configs.hydra_app import compose_jobs
from promptlab.configs.locations import packaged_sweeps
from promptlab.configs.settings import settings_from_jobs
from promptlab.configs.vocabulary import find_options, list_options, read_option
from promptlab.models.dalle import open_tiny
from promptlab.models.diffusers.families import find_family
from promptlab.models.protocol import Parameter, normalize_params
from promptlab.models.registry import open_model
from promptlab.planning.expand import expand
from promptlab.planning.plan import Plan
from tests.painters import PaintModel

STYLES = list_options("style")
TEMPLATES = list_options("template")
SWEEPS = list_options("sweeps")
TINY_STYLES = [style for style in STYLES if "/" not in style and style != "none"]
SUBJECT = "a fox"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclass
class PaintPipeline(PaintModel):
    """Has the parameters of a pipeline of diffusers."""

    pipeline: str = ""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Those of the pipeline's family."""
        return find_family(self.pipeline, {}).parameters


def plan_of(*arguments: str) -> Plan:
    """Return the plan of a command line, every model replaced by one that needs no weights."""
    jobs = compose_jobs(arguments)

    def open_paint(node: object) -> PaintModel:
        assert isinstance(node, dict)
        if node["_target_"].startswith("promptlab.models.http."):
            return open_model(node)  # it asks nobody
        if "pipeline" in node:
            return PaintPipeline(name=node["name"], pipeline=node["pipeline"])
        return PaintModel(name=str(node.get("size") or "tiny"))

    return expand(jobs, settings_from_jobs(jobs), open_paint)


@pytest.mark.slow
def test_every_style_composes_around_every_kind_of_prompt(hydra_restore_singletons):
    plan = plan_of("-m", f"subject={SUBJECT}", f"style={','.join(STYLES)}")
    assert [cell.style for cell in plan.cells] == STYLES
    for cell in plan.cells:
        assert "fox" in cell.prompt
        assert "{" not in cell.prompt
        assert cell.prompt == cell.prompt.strip()


def test_every_template_composes_with_its_own_slots(hydra_restore_singletons):
    plan = plan_of("-m", f"subject={SUBJECT}", f"template={','.join(TEMPLATES)}")
    assert [cell.template for cell in plan.cells] == TEMPLATES
    assert all("fox" in cell.prompt and "{" not in cell.prompt for cell in plan.cells)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_named_sweep_opens_with_its_command(name):
    text = Path(packaged_sweeps(), f"{name}.yaml").read_text(encoding="utf-8")
    assert text.splitlines()[1] == f"# promptlab sweep +sweeps={name}"


@pytest.mark.parametrize("name", SWEEPS)
def test_a_named_sweep_draws_as_many_images_as_it_announces(hydra_restore_singletons, name):
    text = Path(packaged_sweeps(), f"{name}.yaml").read_text(encoding="utf-8")
    header = text.partition("\n\n")[0].replace("\n# ", " ")
    announced = re.findall(r"(\d+) images", header) or re.findall(r"with (\d+) seeds", header)
    plan = plan_of(f"+sweeps={name}")
    assert plan.num_images == int(announced[0])
    assert plan.sweep == name


def test_the_demo_is_at_least_eight_subjects_six_styles_two_seeds(hydra_restore_singletons):
    axes = {axis.name: len(axis.values) for axis in plan_of("+sweeps=subject_x_style").axes}
    assert axes["subject"] >= 8
    assert axes["style"] >= 6
    assert axes["seed"] >= 2


def test_no_two_styles_write_the_same_prompt():
    options = find_options("style")
    patterns = [read_option(options[style])["pattern"] for style in STYLES]
    assert len(set(patterns)) == len(patterns)


def test_the_flat_styles_are_those_that_the_embedded_model_knows():
    styles = open_tiny().words["tiny/styles"]
    known = {s["name"]: s["phrase"] for s in json.loads(styles.read_text())}
    options = find_options("style")
    assert {style: read_option(options[style])["pattern"] for style in TINY_STYLES} == known


@pytest.mark.parametrize("group", ["style", "template", "model"])
def test_every_option_describes_itself(group):
    for name, option in find_options(group).items():
        text = option.path.read_text(encoding="utf-8")
        content = read_option(option)
        node = content.get(group, content)
        assert node.get("description") or re.search(r"^# (?!@)\w", text, re.MULTILINE), name


def test_every_model_names_its_parameters_as_plain_keys():
    for option in find_options("model").values():
        content = read_option(option)
        if content["model"]["_target_"].startswith("promptlab.models.dalle"):
            parameters = {"temperature", "top_k", "supercondition_factor"}
            assert parameters <= content.keys(), option.name


def test_every_ready_pipeline_gives_parameters_that_its_family_accepts():
    nodes = {name: read_option(option) for name, option in find_options("model").items()}
    ready = {name: node for name, node in nodes.items() if node["model"].get("pipeline")}
    assert len(ready) == 10
    for name, content in ready.items():
        family = find_family(content["model"]["pipeline"], {})
        given = {key: value for key, value in content.items() if key != "model"}
        of_texts = {k: p for k, p in family.parameters.items() if not p.is_for_source}
        family.settle(normalize_params(name, of_texts, given))
        assert family.name != "other"
        assert content["model"]["name"] == name


def test_the_embedded_model_opens_without_loading_anything():
    content = read_option(find_options("model")["tiny"])
    model = open_model(content["model"])
    assert model.name == "tiny"
    assert model.is_deterministic
    assert set(model.parameters) == content.keys() - {"model"}
