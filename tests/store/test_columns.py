"""A column that an older promptlab did not write reads as null; a newer schema is refused."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptlab.errors import StoreError
from promptlab.models.protocol import Parameter
from promptlab.paths import RunPaths
from promptlab.records import CELL_COLUMNS, Numerics
from promptlab.run_record import ModelRecord
from promptlab.store import read_run, survey
from promptlab.store.parts import all_columns
from promptlab.store.planned import cell_columns, make_label
from promptlab.store.schema import SCHEMA_VERSION, VERSION_KEY, axis_columns, facts_from_columns
from tests.store.painting import Painter, make_plan
from tests.store.sweeping import check_whole, draw_and_stop, draw_plan, parts_of

ADDED_LATER = ("unseen", "parent_ids")  # columns that the first runs could have lacked


def rewrite_parts(paths, without=(), version=SCHEMA_VERSION):
    """Write a run's parts again as another version of promptlab would have written them."""
    for name in parts_of(paths):
        path = f"{paths.images_parquet}/{name}"
        table = pq.read_table(path).drop_columns(list(without))
        kept = {**table.schema.metadata, VERSION_KEY: str(version).encode()}
        features = json.loads(kept[b"huggingface"])["info"]["features"]
        for column in without:
            features.pop(column)
        kept[b"huggingface"] = json.dumps({"info": {"features": features}}).encode()
        pq.write_table(table.replace_schema_metadata(kept), path)


@pytest.fixture
def old_run(paths):
    """Return a run of 13 images, not finished, whose parts lack the columns added later."""
    draw_and_stop(paths, make_plan(seeds=range(10)), num_images=13, part_rows=5)
    rewrite_parts(paths, ADDED_LATER)
    return paths


def test_a_run_from_before_a_column_is_read_as_null_in_it(old_run):
    run = read_run(old_run)
    assert set(run.table(["unseen"])["unseen"].to_pylist()) == {None}
    assert {row["parent_ids"] for row in run.rows()} == {None}
    assert run.table(["parent_ids"]).schema.field("parent_ids").type == pa.list_(pa.string())
    assert len(dict(run.iter_images())) == 13


def test_a_run_from_before_a_column_is_resumed_and_its_parts_merged_with_the_new(old_run):
    assert survey(old_run, make_plan(seeds=range(10))).num_done == 13
    model = Painter()
    draw_plan(old_run, make_plan(seeds=range(10), model=model))
    assert len(model.drawn) == 27
    rows = check_whole(old_run.root, make_plan(seeds=range(10)))
    assert [row["unseen"] for row in rows] == [None] * 13 + [""] * 27
    (part,) = parts_of(old_run)
    assert set(ADDED_LATER) <= set(pq.read_schema(f"{old_run.images_parquet}/{part}").names)


def test_large_parts_from_before_a_column_get_it_once_the_run_has_others(old_run, monkeypatch):
    monkeypatch.setattr("promptlab.store.compaction.TARGET_ROWS", 4)  # all parts are large
    draw_plan(old_run, make_plan(seeds=range(10)))
    for name in parts_of(old_run):
        assert set(ADDED_LATER) <= set(pq.read_schema(f"{old_run.images_parquet}/{name}").names)
    check_whole(old_run.root, make_plan(seeds=range(10)))


def test_a_finished_run_from_before_a_column_stays_as_it_is(paths):
    draw_plan(paths, make_plan())
    rewrite_parts(paths, ADDED_LATER)
    (name,) = parts_of(paths)
    draw_plan(paths, make_plan())
    assert parts_of(paths) == [name]
    assert not set(ADDED_LATER) & set(pq.read_schema(f"{paths.images_parquet}/{name}").names)


def test_images_of_a_run_from_before_a_column_are_reused(old_run):
    other = RunPaths(f"{old_run.root}_second")
    model = Painter()
    store = draw_plan(other, make_plan(seeds=range(10), model=model))
    assert (store.num_reused, len(model.drawn)) == (13, 27)
    check_whole(other.root, make_plan(seeds=range(10)))


def test_a_part_of_a_newer_schema_is_refused_with_the_advice_to_upgrade(paths):
    draw_plan(paths, make_plan())
    rewrite_parts(paths, version=SCHEMA_VERSION + 1)
    with pytest.raises(StoreError, match=r"schema version 2.*reads up to 1.*newer promptlab"):
        read_run(paths)
    with pytest.raises(StoreError, match="newer promptlab"):
        draw_plan(paths, make_plan())


def test_no_two_axes_share_a_column_and_none_takes_one_of_the_rows_own():
    names = ["Light", "light", "LIGHT", "axis_light", "Seed", "path", "image", "sha256", "Prompt"]
    columns = axis_columns({name: ["x"] for name in names})
    taken = [column.column.lower() for column in columns]
    assert [column.name for column in columns] == names
    assert len(set(taken)) == len(names)
    assert set(taken).isdisjoint(map(str.lower, all_columns(())))
    again = axis_columns({name: ["x"] for name in reversed(names)}, columns)
    assert again == columns, "a run that is resumed keeps its columns"
    more = axis_columns({"lighT": [1]}, columns)
    assert more[:-1] == columns
    assert more[-1].column.lower() not in taken


def test_sweep_yaml_says_of_a_model_all_that_reading_its_rows_may_need(paths):
    painter = Painter()
    painter.needs_source = painter.takes_source = True
    painter.parameters = {"steps": Parameter(int, 9), "sampler": Parameter(str, None)}
    painter.describe = lambda: Numerics("cuda", "bfloat16", padded_batch=4)
    draw_and_stop(paths, make_plan(model=painter), num_images=1)
    assert read_run(paths).record.models == {
        "painter": ModelRecord(
            option="painter",
            name="painter",
            fingerprint=Painter.fingerprint,
            dtype="bfloat16",
            device="cuda",
            image_size=(16, 16),
            is_deterministic=True,
            needs_source=True,
            padded_batch=4,
            defaults={"steps": 9, "sampler": None},
        )
    }


def test_axis_values_of_several_kinds_are_kept_as_they_were_written(paths):
    draw_plan(paths, make_plan(subjects=("a fox",), axes={"mode": [True, 2], "size": [1, 2.5]}))
    rows = read_run(paths).rows()
    assert {row["mode"] for row in rows} == {"true", "2"}
    assert {row["size"] for row in rows} == {1.0, 2.5}


def test_a_fact_that_a_part_holds_no_value_of_is_the_default(paths):
    draw_plan(paths, make_plan(subjects=("a fox",), styles=("noto",), seeds=(0,)))
    (row,) = read_run(paths).rows()
    facts = facts_from_columns({**row, "unseen": None, "numerics": None, "prompt_truncated": None})
    assert (facts.unseen, facts.numerics, facts.prompt_truncated) == ("", "", False)
    assert facts.sha256 == row["sha256"]


def test_row_and_label_take_each_column_from_their_cell():
    painter = Painter()
    painter.describe = lambda: Numerics("cuda", "bfloat16")
    plan = make_plan(axes={"top_k": [8, 16]}, model=painter)
    cell = replace(plan.cells[-1], template="cctv", parent_ids=("a" * 16,))
    columns = cell_columns(plan, cell, 5)
    label = make_label(plan, cell, plan.request(cell, 5)).facts
    own = {"sweep": "test", "seed": 5, "model_fingerprint": Painter.fingerprint}
    own["params"] = '{"temperature":1.0,"top_k":16}'
    for name in CELL_COLUMNS:
        assert getattr(columns, name) == own.get(name, getattr(cell, name, None)), name
    assert columns.axes == label["axes"] == {"top_k": 16}
    assert (label["dtype"], label["template"], label["style"]) == ("bfloat16", "cctv", "openmoji")
