"""A disk that returns other bytes than were written costs the images they held, and no more."""

import logging

import pytest

from promptlab.store import StoreOptions, open_store, read_run, survey
from promptlab.store.folder import RunFolder
from promptlab.store.storage import LocalStorage
from tests.store.painting import Painter, make_plan
from tests.store.sweeping import (
    check_whole,
    damage,
    draw_and_stop,
    draw_plan,
    drawn,
    essence,
    parts_of,
)

PLAN = {"seeds": range(10)}  # 40 images


@pytest.mark.parametrize("position", [0, 1, 3])
@pytest.mark.parametrize("column", ["cell_id", "status", "subject", "image_id", "image.bytes"])
def test_a_part_damaged_anywhere_is_set_aside_and_its_images_drawn_again(
    paths, column, position, caplog
):
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    name = parts_of(paths)[position]
    damage(paths, name, column)
    model = Painter()
    with caplog.at_level(logging.WARNING):
        draw_plan(paths, make_plan(**PLAN, model=model))
    assert len(model.drawn) == 10
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"set aside {name}" in caplog.text
    check_whole(paths.root, make_plan(**PLAN))
    assert len(parts_of(paths)) == 1  # merged, the damage left behind
    draw_plan(paths, make_plan(**PLAN, model=model))
    assert len(model.drawn) == 10


@pytest.mark.parametrize("column", ["sha256", "image.bytes"])
def test_only_the_damaged_hundred_of_a_large_part_is_drawn_again(paths, caplog, column):
    plan = make_plan(seeds=range(100))
    draw_plan(paths, plan)
    expected = essence(read_run(paths).rows())
    (name,) = parts_of(paths)
    damage(paths, name, column, row_group=2)
    model = Painter()
    with caplog.at_level(logging.WARNING):
        draw_plan(paths, make_plan(seeds=range(100), model=model))
    assert "300 of its images are whole and are kept" in caplog.text
    assert len(model.drawn) == 100
    assert essence(check_whole(paths.root, plan)) == expected


def test_rescued_rows_do_not_take_the_place_of_newer_ones(paths):
    plan = make_plan(seeds=range(100))
    with open_store(paths, plan) as store:
        for request in store.pending("painter"):
            store.add(drawn(request, error="not today"))
    draw_and_stop(paths, make_plan(seeds=range(100)), num_images=50, retry_failed=True)
    failed, _ = parts_of(paths)
    damage(paths, failed, "subject", row_group=3)
    model = Painter()
    draw_plan(paths, make_plan(seeds=range(100), model=model))
    rows = read_run(paths).rows()
    assert len(model.drawn) == 100
    assert len(rows) == 400
    assert sum(row["status"] == "ok" for row in rows) == 150


def test_a_plan_counts_the_rows_of_a_damaged_part_as_not_drawn(paths):
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    damage(paths, parts_of(paths)[1], "image_id")
    assert survey(paths, make_plan(**PLAN), StoreOptions(reuse=False)).num_pending == 10


def test_damaged_images_are_read_from_their_png_files(paths, caplog):
    draw_plan(paths, make_plan(**PLAN))
    damage(paths, parts_of(paths)[0], "image.bytes")
    run = read_run(paths)
    with caplog.at_level(logging.WARNING):
        images = dict(run.iter_images())
    assert len(images) == 40
    assert "PNG files are read instead" in caplog.text
    for row in run.rows():
        assert images[row["image_id"]] == run.image_bytes(row["image_id"])


def test_parts_that_cannot_be_merged_stay_as_they_are(paths, caplog):
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    folder = RunFolder(LocalStorage(), paths)
    damage(paths, parts_of(paths)[1], "image.bytes")  # after the folder was looked at
    with caplog.at_level(logging.WARNING):
        folder.compact()
    assert "could not merge small parts" in caplog.text
    assert read_run(paths).num_rows == 40
