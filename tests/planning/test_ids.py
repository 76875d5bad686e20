"""Ids outlive versions: what a run on disk is called today is what it was called when drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from promptlab.configs.settings import Job, Settings
from promptlab.identity import canonical_json
from promptlab.models.protocol import Parameter
from promptlab.planning.expand import expand, narrow
from promptlab.planning.parents import Parent, cell_of_parent
from promptlab.planning.plan import Plan, PlannedModel
from promptlab.planning.requests import make_request, request_of_row
from promptlab.records import Numerics, Scalar, Source
from tests.painters import PARAMETERS, OverpaintModel, PaintModel
from tests.planning.test_plan import SteppedModel

STYLE = {"pattern": "{prompt} in the style of {ink}"}


def make_jobs(**values: Any) -> list[Job]:
    """Return two jobs as Hydra would compose them, with two subjects in each prompt."""
    config = {
        "model": {"_target_": "paint"},
        "template": {"pattern": "{subject}"},
        "style": STYLE,
        "subject": "a {red|blue} fox",
        "ink": "ink",
        "seeds": 2,
        **values,
    }
    choices = {"model": "mine", "template": "plain", "style": "inky"}
    swept = [{"temperature": 0.5}, {"temperature": 1}]
    return [Job(n, (), v, {**config, **v}, choices) for n, v in enumerate(swept)]


def make_plan(name: str = "golden", model: PaintModel | None = None, **values: Any) -> Plan:
    return expand(make_jobs(**values), Settings(name), lambda node: model or PaintModel())


def test_the_ids_of_a_fixed_plan_are_these():
    plan = make_plan()
    assert plan.sweep_id == "84a66fb83a046636"
    assert [(cell.cell_id, cell.arm_id) for cell in plan.cells] == [
        ("3769735072a28dee", "be5ae9050fddd057"),
        ("f1f23ab32422f928", "be5ae9050fddd057"),
        ("33b8817a5e317296", "d1919454bfa09723"),
        ("66635dc2c6a54145", "d1919454bfa09723"),
    ]
    assert [plan.request(c, seed).image_id for c in plan.cells for seed in c.seeds] == [
        *("7d2b57d99cee7f46", "58cd9952016b6713", "a3bc87218fd2b60c", "dddd8e5e65282ad4"),
        *("445778419d976c26", "ad9937722d3a4915", "97c7c10c0a3c5b31", "fff441ac5e5e6c35"),
    ]


def test_the_ids_of_cells_with_axes_of_every_kind_are_these():
    swept = [{"ink": "{oil|tar}", "model.size": 16}, {"ink": "ink", "model.size": 32}]
    models = [ChoosingModel(), SteppedModel()]  # of one name and fingerprint
    jobs = [replace(job, values=v) for job, v in zip(make_jobs(), swept, strict=True)]
    for number, steps in enumerate((None, 99)):
        jobs[number].config.update(
            ink=swept[number]["ink"], steps=steps, model={"_target_": number}
        )
    plan = expand(jobs, Settings("golden"), lambda node: models[node["_target_"]], describe=padded)
    assert [(cell.cell_id, cell.arm_id) for cell in plan.cells] == [
        ("351e89fad98661b3", "0515c2c37a9b7124"),
        ("ce14fd17f91aa7f2", "0fce0909f708cf2d"),
        ("fb34f67838f04be8", "0515c2c37a9b7124"),
        ("2c2ddcb12024c36a", "0fce0909f708cf2d"),
        ("d856aac7510aacde", "5f6aea1f51a46d9f"),
        ("81c40e363b208952", "5f6aea1f51a46d9f"),
    ]


def padded(node: Mapping[str, Any] | None) -> Numerics:
    """Return numerics that count in ids."""
    return Numerics("cpu", "float32", 8)


def test_the_ids_of_cells_in_the_words_of_a_parent_are_these():
    planned = PlannedModel("mine", None, PlannedModel.of(OverpaintModel()).model, padded(None))

    def ids(row: Mapping[str, Any], params: Mapping[str, Scalar], **axes: Scalar) -> list[str]:
        parent = Parent(RED, {**ROW, **row}, {"light": "dusk"})
        cell = cell_of_parent(parent, planned, "paint", params, axes=axes)
        return [cell.cell_id, cell.arm_id]

    found = [
        ids({}, {"top_k": 3}, ink="oil"),
        ids({"cell_id": "c"}, {"top_k": 3}, ink="oil"),
        ids({"arm_id": "a"}, {"top_k": 3}, ink="oil"),
        ids({}, {"top_k": 3}, ink="tar"),
        ids({}, {"top_k": 4}, ink="oil"),
    ]
    assert found == [
        ["3cfbc3af36507555", "bfd582dbaacaaa8b"],
        ["856427d491e3f6e9", "bfd582dbaacaaa8b"],
        ["4000e12855d68a1b", "c82ffa729d06a542"],
        ["91b801d3c3a45c91", "8dd980ce60622d8f"],
        ["ce4deae15983d039", "be7e1f97aaa6a0a3"],
    ]


@dataclass
class ChoosingModel(OverpaintModel):
    """Chooses its steps itself where none are asked for."""

    chosen: int = 10

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Steps beside those of the family."""
        return {**PARAMETERS, "steps": Parameter(int, None)}

    def settle(self, params: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
        """Fill in the steps."""
        return {**params, "steps": params["steps"] or self.chosen}


def ids_of(
    *,
    config: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    model: Mapping[str, Any] | None = None,
    padded_batch: int | None = None,
    sweep: str = "golden",
    source: Source | None = None,
    number: int = 0,
) -> dict[str, str]:
    """Return all ids of one image of a plan of two cells."""
    values: dict[str, Any] = {
        "model": {"_target_": "paint"},
        "template": {"pattern": "{subject}"},
        "style": STYLE,
        "subject": "a {colour: red|blue} fox",
        "ink": "ink",
        **({} if source is None else {"parent": source.image_id}),
        **(config or {}),
    }
    choices = {"model": "mine", "template": "plain", "style": "inky", **(names or {})}
    plan = expand(
        [Job(0, (), {}, values, choices)],
        Settings(sweep),
        lambda node: ChoosingModel(**(model or {})),
        find_parent=lambda image_id: Parent(source, ROW, {}),
        describe=lambda node: Numerics("cpu", (model or {}).get("dtype", "float32"), padded_batch),
    )
    cell = plan.cells[number]
    request = plan.request(cell, cell.seeds[0])
    return {"image": request.image_id, "cell": cell.cell_id, "arm": cell.arm_id}


ROW = {
    **dict.fromkeys(("arm_id", "cell_id", "subject", "style", "template", "prompt"), "x"),
    "seed": 0,
}
RED, BLUE = Source("0" * 16, "a" * 64), Source("0" * 16, "b" * 64)
BARE = {"subject": None, "style": {"pattern": "{prompt}"}, "ink": None}
ALL, NONE = "image cell arm", ""


@pytest.mark.parametrize(
    ("counting", "one", "other"),
    [
        (ALL, {}, {"model": {"fingerprint": "f" * 16}}),
        (ALL, {}, {"model": {"name": "paint2"}}),
        (ALL, {}, {"model": {"dtype": "bfloat16"}}),
        (ALL, {}, {"padded_batch": 8}),
        (ALL, {}, {"config": {"temperature": 0.5}}),
        (ALL, {}, {"config": {"ink": "oil"}}),
        ("image cell", {}, {"config": {"subject": "a cat"}}),
        ("image cell", {}, {"number": 1}),  # a blue fox
        ("image cell", {"source": RED}, {"source": BLUE}),
        ("image cell", {"source": RED, "config": BARE}, {"source": BLUE, "config": BARE}),
        ("image cell", {}, {"source": RED}),
        ("cell arm", {}, {"names": {"style": "of_ink"}}),  # the same prompt
        ("cell arm", {}, {"names": {"template": "bare"}}),
        ("image", {}, {"config": {"seeds": [7]}}),
        ("image", {}, {"model": {"chosen": 20}}),
        (NONE, {}, {"model": {"device": "cuda"}}),
        (NONE, {}, {"names": {"model": "yours"}}),
        (NONE, {}, {"sweep": "another"}),
        (NONE, {"source": RED}, {"source": replace(RED, image_id="1" * 16)}),
    ],
)
def test_what_changes_changes_the_ids_that_count_it_and_no_others(counting, one, other):
    ids, others = ids_of(**one), ids_of(**other)
    assert [name for name in ids if ids[name] != others[name]] == counting.split()


OTHERS = {"name": "other", "seeds": 3, "subject": "a {red|green} fox", "ink": "oil", "top_k": 3}


@pytest.mark.parametrize("key", OTHERS)
def test_another_sweep_has_another_id(key):
    assert make_plan(**{key: OTHERS[key]}).sweep_id != make_plan().sweep_id


def test_the_same_cells_with_other_parents_are_another_sweep():
    plan, jobs = make_plan(), make_jobs()
    ids = set()
    for parents in ((), ("0" * 16,), ("1" * 16,)):
        cells = tuple(replace(cell, parent_ids=parents) for cell in plan.cells)
        ids.add(narrow(plan, jobs, cells).sweep_id)
    assert len(ids) == 3


def test_a_row_is_answered_by_the_request_that_drew_it():
    plan = make_plan(model=OverpaintModel())
    cell = replace(plan.cells[0], source=RED)
    planned = plan.models[cell.model_key]
    row = {"prompt": cell.prompt, "seed": 1, "params": canonical_json(dict(cell.params))}
    asked = plan.request(cell, 1)
    assert asked.source == RED
    assert request_of_row(row, planned.model, planned.numerics, RED) == asked
    assert request_of_row(row, planned.model, planned.numerics) != asked


def test_the_pixels_of_a_parent_count_in_the_id_and_what_the_parent_is_called_does_not():
    planned = PlannedModel.of(PaintModel())

    def id_of(source: Source | None) -> str:
        request = make_request(planned.model, planned.numerics, "a fox", 0, {}, source)
        return request.image_id

    parent = Source("0" * 16, "a" * 64, b"")
    assert id_of(replace(parent, image_id="1" * 16)) == id_of(parent)
    assert len({id_of(None), id_of(parent), id_of(replace(parent, sha256="b" * 64))}) == 3
