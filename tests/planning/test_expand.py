"""What a plan holds: cells in order, their axes and columns, the models that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from promptlab.configs.settings import Job, Settings
from promptlab.errors import ConfigError, ParameterError, PlanTooLargeError, PromptError
from promptlab.planning.expand import expand, narrow
from promptlab.planning.parents import Parent
from promptlab.planning.plan import Plan
from promptlab.records import Source
from tests.painters import PaintModel, VaryModel
from tests.planning.test_plan import EnlargeModel, SteppedModel, make_job, make_plan

PARENTS = {
    letter * 16: Parent(
        Source(letter * 16, letter * 64),
        {
            **{"cell_id": f"cell {letter}", "arm_id": f"arm {letter}", "prompt": f"a {letter}"},
            **{"subject": letter, "style": "inky", "template": "seen", "seed": 5},
        },
        {"light": "dusk"},
    )
    for letter in "ab"
}
BARE = {"subject": None}  # what a job says that takes its parent's words


def of_models(*names: str, **values: Any) -> list[Job]:
    """Return a job for each model."""
    jobs = [make_job(number, **values) for number, _ in enumerate(names)]
    return [
        replace(job, config={**job.config, "model": {"_target_": name}}, choices={"model": "mine"})
        for job, name in zip(jobs, names, strict=True)
    ]


def open_named(node: Mapping[str, Any] | None) -> PaintModel:
    """Open a model by its name; "later" has no weights yet."""
    name = (node or {})["_target_"]
    kinds = {"vary": VaryModel, "enlarge": EnlargeModel, "stepped": SteppedModel}
    return kinds.get(name, PaintModel)(name, fingerprint="" if name == "later" else "f" * 16)


def plan_of(jobs: list[Job], **options: Any) -> Plan:
    return expand(jobs, Settings("t"), open_named, find_parent=PARENTS.__getitem__, **options)


def test_a_cell_that_several_jobs_ask_for_is_the_firsts_with_the_seeds_of_all_in_order():
    plan = make_plan(PaintModel(), make_job(3, seeds="4-5"), make_job(7, seeds="0-4"))
    (cell,) = plan.cells
    assert (cell.job_id, cell.seeds) == (3, (4, 5, 0, 1, 2, 3))
    (key,) = plan.models
    assert [request.seed for _, request in plan.requests(key)] == [4, 5, 0, 1, 2, 3]
    assert any("1 duplicate cell" in note for note in plan.notes)
    (axis,) = plan.axes
    assert (axis.name, axis.values) == ("seed", cell.seeds)


def test_axes_and_columns_stand_in_the_order_of_the_command():
    swept = [
        {"top_k": k, "temperature": t, "subject": s} for k, t, s in ((1, 2.0, "p"), (2, 3, "q"))
    ]
    jobs = [make_job(number, **values) for number, values in enumerate(swept)]
    plan = make_plan(PaintModel(), *jobs)
    assert [axis.name for axis in plan.axes] == ["top_k", "temperature", "subject"]
    assert [list(cell.axes) for cell in plan.cells] == [["top_k", "temperature"]] * 2
    assert narrow(plan, jobs, plan.cells) == plan
    assert narrow(plan, jobs, plan.cells[:1]).axes == ()


def test_a_plan_holds_no_model_whose_cells_are_all_left_out():
    jobs = of_models("paint", "other", "later")
    plan = plan_of(jobs)
    assert list(plan.models) == ["paint", "other", "later"]
    assert list(narrow(plan, jobs, plan.cells[1:]).models) == ["other", "later"]
    assert not plan.has_ids, "the fingerprint of one model comes with its download"
    assert narrow(plan, jobs, plan.cells[:2]).has_ids
    for job in jobs:
        job.config["only"] = [{"model": "other"}]
    assert list(plan_of(jobs).models) == ["other"]


def test_a_slot_with_one_value_everywhere_is_no_column_and_one_with_two_is():
    seen = {"pattern": "{subject} in {light}"}
    jobs = [make_job(number, subject=s, light="fog") for number, s in enumerate("pq")]
    for job in jobs:
        job.config["template"] = seen
    assert [cell.axes for cell in make_plan(PaintModel(), *jobs).cells] == [{}, {}]
    jobs[1].config["light"] = "{rain|sun}"
    cells = make_plan(PaintModel(), *jobs).cells
    assert [cell.axes for cell in cells] == [{"light": light} for light in ("fog", "rain", "sun")]


def test_the_value_of_a_swept_slot_is_what_stands_in_the_prompt():
    jobs = [make_job(number, ink=ink) for number, ink in enumerate(("{red|blue}", "black"))]
    for job in jobs:
        job.config["style"] = {"pattern": "{prompt} in {ink}"}
    cells = make_plan(PaintModel(), *jobs).cells
    assert [cell.axes for cell in cells] == [{"ink": ink} for ink in ("red", "blue", "black")]


def test_an_axis_is_a_part_of_the_subject_only_where_no_prompt_has_it_elsewhere():
    inside = make_job(0, subject="a {ink: red|blue} fox")
    outside = make_job(1, subject="a fox")
    outside.config["template"] = {"pattern": "{subject} in {ink: red|blue}"}
    assert make_plan(PaintModel(), inside).subject_axes == ("ink",)
    for jobs in ((inside, outside), (outside, inside)):
        assert make_plan(PaintModel(), *jobs).subject_axes == ()


def test_the_subject_of_a_prompt_that_does_not_show_it_is_the_one_that_was_asked_for():
    job = make_job(subject="a fox")
    job.config["template"] = {"pattern": "red light"}
    (cell,) = make_plan(PaintModel(), job).cells
    assert (cell.subject, cell.prompt) == ("a fox", "red light")


def test_rules_go_by_the_values_that_were_asked_for_and_by_settings_of_the_model():
    jobs = [make_job(number, steps=steps) for number, steps in enumerate((10, 99))]
    for job in jobs:
        job.config["exclude"] = [{"steps": 99}]
    (cell,) = make_plan(SteppedModel(), *jobs).cells
    assert cell.job_id == 0
    jobs = [make_job(number, model={"_target_": "paint", "size": 16 + number}) for number in (0, 1)]
    for job in jobs:
        job.config["exclude"] = [{"model.size": 16}]
    assert [cell.job_id for cell in make_plan(PaintModel(), *jobs).cells] == [1]


def test_a_resumed_run_keeps_its_sample_and_a_rule_without_effect_warns_once(caplog):
    job = make_job(subject="{a: p|q|r|s}")
    job.config.update(sample={"a": 2}, exclude=[{"a": "nothing"}])
    plan = plan_of([job])
    assert [cell.subject for cell in plan.cells] == list(plan.samples["a"])
    others = tuple(value for value in "pqrs" if value not in plan.samples["a"])
    resumed = plan_of([job], recorded_samples={"a": others})
    assert [cell.subject for cell in resumed.cells] == list(others)
    assert resumed.samples == {"a": others}
    assert [record.getMessage() for record in caplog.records] == [
        "The rule exclude {a: nothing} matches nothing: check its names."
    ] * 2


def test_styles_of_one_pattern_are_cells_of_their_own_and_count_against_the_limit():
    jobs = [replace(make_job(n), choices={"style": style}) for n, style in enumerate("pq")]
    assert len(make_plan(PaintModel(), *jobs).cells) == 2
    with pytest.raises(PlanTooLargeError):
        expand(jobs, Settings("t", limit=1), lambda node: PaintModel())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"subject": "{a fox|}"}, "prompt is empty"),
        ({"subject": "\\ "}, "prompt is empty"),
        ({"subject": "a\0b"}, "NUL character at position 1"),
        ({"subject": "a\ud800"}, "not UTF-8 at position 1"),
        ({"template": {"pattern": "{subject}\ud800"}}, "not UTF-8 at position 5"),
        ({"subject": "--prompt 'a fox'"}, "one a line: a fox"),
        ({"subject": " --steps 3"}, "got flags"),
        ({"subject": "???"}, r"slot \{subject\} is not filled"),
        ({"style": {"pattern": "red light"}}, "same picture for every subject"),
        ({"style": {"pattern": ["{prompt}"]}}, "has no pattern"),
    ],
)
def test_what_no_one_can_have_meant_to_draw_is_refused(values, words):
    with pytest.raises((PromptError, ConfigError), match=words):
        make_plan(PaintModel(), make_job(**values))


def test_names_that_no_table_could_hold_are_refused():
    bad = "a\ud800"
    with pytest.raises(PromptError, match="not UTF-8"):
        expand([make_job()], Settings(bad), lambda node: PaintModel())
    with pytest.raises(PromptError, match="not UTF-8"):
        make_plan(PaintModel(), replace(make_job(), choices={"style": bad}))
    jobs = [replace(make_job(n), values={"model.file": f}) for n, f in enumerate(("a", bad))]
    with pytest.raises(PromptError, match="not UTF-8"):
        make_plan(PaintModel(), *jobs)


def test_each_model_is_opened_once_and_each_parent_is_found_once():
    asked: list[Any] = []

    def note(value: Any, found: Any) -> Any:
        asked.append(value)
        return found

    jobs = of_models("vary", "paint", "vary", "paint")
    for number in (0, 2):
        jobs[number].config["parent"] = "a" * 16
    plan = expand(
        jobs,
        Settings("t"),
        lambda node: note(node, open_named(node)),
        find_parent=lambda image_id: note(image_id, PARENTS[image_id]),
    )
    assert asked == [{"_target_": "vary"}, "a" * 16, {"_target_": "paint"}]
    assert list(plan.models) == ["vary", "paint"]


def test_parameters_are_those_of_the_cells_own_model():
    plan = plan_of(of_models("paint", "stepped", "paint"))
    assert ["steps" in cell.params for cell in plan.cells] == [False, True]


@pytest.mark.parametrize("parents", [(None, "a" * 16), ("a" * 16, None)])
def test_a_parameter_for_a_source_counts_only_where_there_is_one(parents):
    jobs = of_models("vary", "vary")
    for job, parent in zip(jobs, parents, strict=True):
        job.config["parent"] = parent
    plan = plan_of(jobs)
    assert ["strength" in cell.params for cell in plan.cells] == [p is not None for p in parents]


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        ("vary", {"strength": 0.5}, "acts only on an image that is drawn from another"),
        ("paint", {"parent": "a" * 16}, "draws from no image"),
        ("enlarge", {}, "draws from an image, and none is given"),
    ],
)
def test_a_model_and_a_parent_that_do_not_fit_are_refused(model, values, words):
    with pytest.raises((ConfigError, ParameterError), match=words):
        plan_of(of_models(model, **values))


def test_a_job_without_words_of_its_own_takes_its_parents_words_seed_or_seeds():
    jobs = [*of_models("vary", **BARE, seeds="1-2"), *of_models("enlarge", **BARE, seeds="1-2")]
    jobs = [replace(job, number=n) for n, job in enumerate(jobs)]
    for job in jobs:
        job.config["parent"] = "a" * 16
    varied, enlarged = plan_of(jobs).cells
    for cell in (varied, enlarged):
        assert (cell.prompt, cell.subject, cell.style, cell.template) == (
            "a a",
            "a",
            "inky",
            "seen",
        )
        assert cell.axes["light"] == "dusk"
    assert (varied.seeds, enlarged.seeds) == ((1, 2), (5,))
    assert (varied.job_id, enlarged.job_id) == (0, 1)


@pytest.mark.parametrize("key", ["template", "style"])
def test_a_template_or_a_style_alone_is_words_of_its_own(key):
    (job,) = of_models("vary", **BARE, parent="a" * 16)
    job.config[key] = {"pattern": "red {prompt}" if key == "style" else "red light"}
    if key == "style":
        job.config["template"] = {"pattern": "light"}
    (cell,) = plan_of([job]).cells
    assert cell.prompt == "red light"


def test_images_drawn_from_others_stand_at_the_values_that_were_asked_for():
    class SteppedVaryModel(SteppedModel):
        takes_source = True

    asked = [(parent, steps) for parent in PARENTS for steps in (10, 99)]
    jobs = [make_job(n, **BARE, parent=p, steps=s) for n, (p, s) in enumerate(asked)]
    plan = expand(
        jobs, Settings("t"), lambda node: SteppedVaryModel(), find_parent=PARENTS.__getitem__
    )
    found = [(cell.axes["parent"], cell.axes["steps"]) for cell in plan.cells]
    assert found == asked
    assert len({cell.arm_id for cell in plan.cells}) == 4
