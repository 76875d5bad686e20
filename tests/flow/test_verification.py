"""A stored image is compared by its pixels, whatever its file looks like."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from promptlab.errors import StoreError
from promptlab.flow.verification import file_problem, largest_difference, verify
from promptlab.paths import RunPaths
from promptlab.png import compress
from promptlab.run_record import RunRecord
from promptlab.store import read_run
from tests.store.painting import make_plan
from tests.store.sweeping import draw_plan

PIXELS = np.full((4, 6, 3), 100, np.uint8)


@pytest.mark.parametrize("levels", [-100, -1, 0, 1, 16, 155])
def test_the_difference_of_two_images_is_the_largest_of_any_value_in_either_direction(levels):
    other = PIXELS.copy()
    other[2, 3, 1] = 100 + levels
    assert largest_difference(other, compress(PIXELS)) == abs(levels)
    assert largest_difference(PIXELS, compress(other)) == abs(levels)


def test_there_is_no_difference_to_an_image_of_another_size_or_to_none():
    assert largest_difference(PIXELS, compress(PIXELS[:3])) is None
    assert largest_difference(PIXELS, None) is None
    assert largest_difference(PIXELS, compress(PIXELS)[:50]) is None


@pytest.fixture
def run(tmp_path):
    paths = RunPaths(str(tmp_path / "one"))
    record = RunRecord(models_config={"painter": {"_target_": "tests.store.painting.Painter"}})
    draw_plan(paths, make_plan(), record=record)
    return read_run(paths)


def test_what_is_wrong_with_a_stored_file_is_said(run):
    rows = run.rows()
    good, other, cut, gone = rows[:4]
    assert file_problem(run, good) is None
    png = run.image_bytes(good["image_id"])
    replaced = {other["path"]: png, cut["path"]: png[: len(png) // 2]}
    for path, data in replaced.items():
        with open(run.paths.join(path), "wb") as file:
            file.write(data)
    os.unlink(run.paths.join(gone["path"]))
    assert file_problem(run, other) == "its PNG holds other pixels than were drawn"
    assert "cannot be read" in file_problem(run, cut)
    assert file_problem(run, gone) is None, "Parquet holds it as well"
    for name in os.listdir(run.paths.images_parquet):
        os.unlink(f"{run.paths.images_parquet}/{name}")
    assert file_problem(run, gone) == "its PNG is gone"


def test_columns_that_are_not_those_of_their_image_are_a_problem(run):
    rows = [{**row, "seed": 9} if number == 1 else row for number, row in enumerate(run.rows())]
    found = verify(run, rows, "nowhere")
    assert found.problems == [(rows[1]["image_id"], "its columns are those of another image")]
    assert (found.levels, found.unpromised) == ({}, set())


def test_rows_of_weights_that_are_gone_are_refused(run):
    rows = [{**row, "model_fingerprint": "f" * 16} for row in run.rows()]
    with pytest.raises(StoreError, match="does not say which model drew"):
        verify(run, rows, "nowhere")
    models = {"painter": replace(run.record.models["painter"], fingerprint="f" * 16)}
    run.__dict__["record"] = replace(run.record, models=models)
    with pytest.raises(StoreError, match="weights of painter have changed: expected"):
        verify(run, rows, "nowhere")
