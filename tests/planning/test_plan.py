"""What a plan takes from its models: ids, parameters as they act, sizes, words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from promptlab.configs.settings import Job, Settings
from promptlab.errors import ConfigError, ParameterError, PlanTooLargeError, PromptError
from promptlab.models.protocol import Parameter
from promptlab.planning.expand import check_limit, expand
from promptlab.planning.parents import Parent, cell_of_parent
from promptlab.planning.plan import Plan, PlannedModel
from promptlab.records import Numerics, Scalar, Source
from tests.painters import PARAMETERS, OverpaintModel, PaintModel

BASE = {"template": {"pattern": "{subject}"}, "style": {"pattern": "{prompt}"}}


def make_job(number: int = 0, **values: Any) -> Job:
    """Return a job as Hydra would compose it."""
    config = {"model": {"_target_": "paint"}, **BASE, "subject": "a fox", "seeds": 1, **values}
    choices = {"model": "mine", "template": "plain", "style": "none"}
    size = {} if "model" not in values else {"model.size": values.pop("model")["size"]}
    return Job(number, (), {**values, **size}, config, choices)


def make_plan(model: PaintModel, *jobs: Job) -> Plan:
    """Return the plan of some jobs of one model."""
    return expand(jobs or (make_job(),), Settings("test"), lambda node: model)


def ids(plan: Plan) -> list[str]:
    """Return the image_ids of a plan."""
    return [plan.request(cell, seed).image_id for cell in plan.cells for seed in cell.seeds]


@pytest.mark.parametrize("change", [{"fingerprint": "f" * 16}, {"dtype": "bfloat16"}])
def test_the_image_ids_of_a_plan_change_with_the_models_weights_and_dtype(change):
    plan, other = make_plan(PaintModel()), make_plan(replace(PaintModel(), **change))
    assert set(ids(plan)).isdisjoint(ids(other))
    assert plan.sweep_id != other.sweep_id


def test_one_model_swept_over_a_setting_of_its_own_draws_each_cell_with_its_setting():
    jobs = [make_job(i, model={"_target_": "paint", "size": 16 * (i + 1)}) for i in range(2)]
    plan = expand(jobs, Settings("test"), lambda node: PaintModel(size=node["size"]))
    sizes = [plan.models[cell.model_key].model.image_size for cell in plan.cells]
    assert sizes == [(16, 16), (32, 32)]
    assert [planned.node["size"] for planned in plan.models.values()] == [16, 32]
    asked = [[cell for cell, _ in plan.requests(key)] for key in plan.models]
    assert asked == [[cell] for cell in plan.cells]


@dataclass
class SteppedModel(PaintModel):
    """Has a parameter of which more than ten acts as ten."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Steps beside those of the family."""
        return {**PARAMETERS, "steps": Parameter(int, 10)}

    def settle(self, params: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Take at most ten steps."""
        return {**params, "steps": min(params["steps"], 10)}


def test_parameters_that_act_the_same_are_one_image():
    plan = make_plan(SteppedModel(), make_job(0, steps=10), make_job(1, steps=99))
    assert len(set(ids(plan))) == 1
    assert all(cell.params["steps"] == 10 for cell in plan.cells)


def test_a_value_without_effect_is_a_cell_of_its_own_in_its_place_on_the_axis():
    plan = make_plan(SteppedModel(), *(make_job(i, steps=n) for i, n in enumerate((5, 10, 99))))
    assert [cell.axes["steps"] for cell in plan.cells] == [5, 10, 99]
    assert len({cell.cell_id for cell in plan.cells}) == 3
    (alone,) = make_plan(SteppedModel(), make_job(steps=10)).cells
    assert alone.cell_id == plan.cells[1].cell_id


def test_a_value_is_checked_although_an_equal_one_of_another_kind_was_taken():
    with pytest.raises(ParameterError, match="steps"):
        make_plan(SteppedModel(), make_job(0, steps=1), make_job(1, steps=True))


def test_an_axis_that_some_prompts_do_not_have_is_an_axis_even_with_one_value():
    plan = make_plan(PaintModel(), make_job(subject="{a fox|a {ink: red} car}"))
    assert ("ink", ("red",)) in [(axis.name, axis.values) for axis in plan.axes]


def test_samples_of_two_axes_keep_what_both_chose():
    jobs = [
        make_job(2 * n + m, steps=steps, temperature=warmth)
        for n, steps in enumerate((3, 5))
        for m, warmth in enumerate((0.5, 0.7))
    ]
    for job in jobs:
        job.config["sample"] = {"steps": 1, "temperature": 1}
    (cell,) = make_plan(SteppedModel(), *jobs).cells
    assert cell.params["steps"] in (3, 5)


@pytest.mark.parametrize(
    "jobs",
    [
        [{"seeds": "0-3"}, {"seeds": "2-5"}],  # one cell of six seeds
        [{"seeds": 3, "subject": "{a|b|c}"}, {"seeds": 4, "subject": "{a|b|c}"}],
        [{"seeds": 3, "steps": 5}, {"seeds": 2, "steps": 6}, {"seeds": [9], "steps": 5}],
        [{"seeds": 2, "exclude": [{"colour": "red"}], "subject": "a {colour: red|blue|dark} fox"}],
    ],
    ids=str,
)
def test_a_plan_is_refused_where_it_holds_more_images_than_its_limit_and_only_there(jobs):
    def of(limit: int) -> Plan:
        made = [make_job(number, **job) for number, job in enumerate(jobs)]
        return expand(made, Settings("test", limit=limit), lambda node: SteppedModel())

    number = of(1000).num_images
    assert of(number).num_images == number
    check_limit(of(number), number)
    with pytest.raises(PlanTooLargeError, match=rf"holds {number} images.* limit={number}"):
        of(number - 1)
    with pytest.raises(PlanTooLargeError, match=rf"holds {number} images.* limit={number}"):
        check_limit(of(number), number - 1)


def test_another_padded_batch_is_another_sweep():
    def of(padded_batch: int | None) -> Plan:
        numerics = Numerics("cpu", "float32", padded_batch)
        return expand(
            [make_job()], Settings("t"), lambda n: PaintModel(), describe=lambda n: numerics
        )

    assert len({of(size).sweep_id for size in (None, 1, 2)}) == 3


@dataclass
class WordyModel(PaintModel):
    """Brings a list of the words that it knows."""

    folder: str = ""

    @property
    def words(self) -> Mapping[str, Path]:
        """Two animals, and a file that is no list for prompts."""
        return {
            "paint/animals": Path(self.folder, "animals.txt"),
            "paint/all": Path(self.folder, "all.json"),
        }


def test_the_words_of_a_model_are_a_wildcard_and_those_that_ship_are_one_for_any_model(tmp_path):
    (tmp_path / "animals.txt").write_text("newt\nauk\n")
    (tmp_path / "all.json").write_text('["x"]')
    model = WordyModel(folder=str(tmp_path))
    for wildcard in ("__paint/animals__", "__paint/*__"):
        plan = make_plan(model, make_job(subject=f"a {wildcard}"))
        assert [cell.prompt for cell in plan.cells] == ["a newt", "a auk"]
    assert len(make_plan(PaintModel(), make_job(subject="__tiny/subjects__")).cells) > 100


def test_the_words_and_the_parameters_of_every_model_count(tmp_path):
    (tmp_path / "animals.txt").write_text("newt\nauk\n")
    models = {"paint": SteppedModel(), "wordy": WordyModel(folder=str(tmp_path))}

    def plan_of(subject: str, *names: str) -> Plan:
        jobs = [make_job(number, subject=subject) for number, _ in enumerate(names)]
        for job, name in zip(jobs, names, strict=True):
            job.config["model"] = {"_target_": name}
        return expand(jobs, Settings("t"), lambda node: models[node["_target_"]])

    assert len(plan_of("__paint/animals__", "paint", "wordy").cells) == 4
    with pytest.raises(PromptError, match="cannot be called 'steps'"):
        plan_of("a {steps: red|blue} fox", "wordy", "paint")


def test_values_of_one_key_are_read_job_by_job_and_may_hold_slots_and_fill_them(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "pet.txt").write_text("newt\n")
    jobs = [
        make_job(0, subject=["a {ink: red} fox", "an {act} owl"], act="old"),
        make_job(1, subject=["a {ink: blue} __pet__"]),
    ]
    for job, folders in zip(jobs, (str(tmp_path / "lists"), None), strict=True):
        job.config["wildcards"] = folders
    jobs[1].config["template"] = {"pattern": "{ink} {subject}"}
    plan = make_plan(PaintModel(), *jobs)
    assert [c.prompt for c in plan.cells] == ["a red fox", "an old owl", "blue a blue newt"]


def test_a_planned_model_names_its_option_and_config():
    (planned,) = make_plan(PaintModel()).models.values()
    assert (planned.option, planned.node) == ("mine", {"_target_": "paint"})


def test_ids_count_the_numerics_of_whoever_draws():
    there = Numerics("cuda", "bfloat16")
    plan = expand([make_job()], Settings("t"), lambda node: PaintModel(), describe=lambda n: there)
    assert [planned.numerics for planned in plan.models.values()] == [there]
    assert ids(plan) == ids(make_plan(PaintModel(dtype="bfloat16")))
    fixed = Numerics("cuda", "bfloat16", padded_batch=8)
    other = expand([make_job()], Settings("t"), lambda node: PaintModel(), describe=lambda n: fixed)
    assert set(ids(other)).isdisjoint(ids(plan))


def test_a_parent_that_reads_as_a_number_asks_for_quotes():
    model = OverpaintModel()
    with pytest.raises(ConfigError, match="write it with quotes"):
        make_plan(model, make_job(parent=1234))


@pytest.mark.parametrize(
    "name", ["top_k", "seed", "image_id", "path", "image", "axes", "model", "limit"]
)
def test_an_axis_of_a_prompt_cannot_be_called_like_a_parameter_a_column_or_a_key(name):
    with pytest.raises(PromptError, match=f"cannot be called '{name}'"):
        make_plan(PaintModel(), make_job(subject=f"a {{{name}: red|blue}} fox"))


def test_an_image_drawn_from_another_has_its_axes_but_for_those_of_its_own_cell():
    columns = ("arm_id", "cell_id", "subject", "style", "template", "prompt")
    row = {**dict.fromkeys(columns, "x"), "seed": 5}
    parent = Parent(Source("a" * 16, "11"), row, {"light": "dusk", "temperature": 0.5})
    planned = PlannedModel.of(OverpaintModel())
    cell = cell_of_parent(
        parent, planned, "paint", {}, seeds=(1, 2), axes={"temperature": 2.0, "parent": "a" * 16}
    )
    assert cell.axes == {"light": "dusk", "temperature": 2.0, "parent": "a" * 16}
    assert (cell.subject, cell.prompt, cell.seeds) == ("x", "x", (1, 2))


class EnlargeModel(OverpaintModel):
    """Draws its parent larger."""

    name = "enlarge"
    needs_source = True


@pytest.mark.parametrize("models", ["enlarge enlarge", "paint paint", "enlarge paint"])
def test_a_parent_is_an_axis_unless_all_models_put_their_images_in_its_place(models):
    sources = {"a" * 16: Source("a" * 16, "11"), "b" * 16: Source("b" * 16, "22")}
    columns = ("arm_id", "cell_id", "subject", "style", "template", "prompt")
    row = {**dict.fromkeys(columns, "x"), "seed": 5}
    parents = {i: Parent(source, {**row, "cell_id": i}, {}) for i, source in sources.items()}
    jobs = []
    for number, (parent, name) in enumerate(zip(parents, models.split(), strict=True)):
        job = make_job(number, parent=parent)
        jobs.append(replace(job, config={**job.config, "model": {"_target_": name}}))
    plan = expand(
        jobs,
        Settings("t"),
        lambda node: EnlargeModel("enlarge") if node["_target_"] == "enlarge" else OverpaintModel(),
        find_parent=parents.__getitem__,
    )
    is_axis = "paint" in models
    assert ("parent" in {axis.name for axis in plan.axes}) == is_axis
    for cell, parent in zip(plan.cells, parents, strict=True):
        assert cell.axes == ({"parent": parent} if is_axis else {})


def test_two_parents_of_one_prompt_are_two_cells():
    jobs = [make_job(n, parent=parent) for n, parent in enumerate(("a" * 16, "b" * 16))]
    sources = {"a" * 16: Source("a" * 16, "11"), "b" * 16: Source("b" * 16, "22")}
    parents = {image_id: Parent(source, {}, {}) for image_id, source in sources.items()}
    model = OverpaintModel()
    plan = expand(jobs, Settings("t"), lambda node: model, None, parents.__getitem__)
    assert len({cell.cell_id for cell in plan.cells}) == 2
    assert len(set(ids(plan))) == 2
    assert [cell.source for cell in plan.cells] == list(sources.values())
    alone = [replace(job, values={}) for job in jobs]  # the parent of a config is no axis
    plans = [expand([j], Settings("t"), lambda n: model, None, parents.__getitem__) for j in alone]
    assert len({plan.cells[0].cell_id for plan in plans}) == 2
