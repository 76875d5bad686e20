"""A disk that returns other bytes than were written costs the images they held, and no more."""

import errno
import io
import logging

import pytest

from promptlab.paths import RunPaths
from promptlab.store import StoreOptions, open_store, read_run, survey
from promptlab.store import parts as part_files
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


@pytest.mark.parametrize("num_newer", [50, 100])  # of a group of 100 rows
def test_rescued_rows_do_not_take_the_place_of_newer_ones(paths, num_newer):
    plan = make_plan(seeds=range(100))
    with open_store(paths, plan) as store:
        for request in store.pending("painter"):
            store.add(drawn(request, error="not today"))
    draw_and_stop(paths, make_plan(seeds=range(100)), num_images=num_newer, retry_failed=True)
    failed, _ = parts_of(paths)
    damage(paths, failed, "subject", row_group=3)
    model = Painter()
    draw_plan(paths, make_plan(seeds=range(100), model=model))
    rows = read_run(paths).rows()
    assert len(model.drawn) == 100
    assert len(rows) == 400
    assert sum(row["status"] == "ok" for row in rows) == 100 + num_newer


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


def test_several_damaged_parts_are_all_set_aside(paths):
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    for name in parts_of(paths)[:2]:
        damage(paths, name, "cell_id")
    model = Painter()
    draw_plan(paths, make_plan(**PLAN, model=model))
    assert len(model.drawn) == 20
    check_whole(paths.root, make_plan(**PLAN))


@pytest.mark.parametrize(("position", "num_drawn"), [(-1, 10), (0, 0)])
def test_of_large_parts_the_images_of_the_last_are_looked_at(
    paths, monkeypatch, position, num_drawn
):
    monkeypatch.setattr("promptlab.store.compaction.TARGET_ROWS", 10)
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    damage(paths, parts_of(paths)[position], "image.bytes")
    model = Painter()
    draw_plan(paths, make_plan(**PLAN, model=model))
    assert len(model.drawn) == num_drawn


@pytest.mark.parametrize("column", ["image_id", "sha256", "seconds", "created_at", "params"])
def test_a_reader_leaves_out_the_rows_of_a_damaged_part_and_says_so(paths, column, caplog):
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    expected = read_run(paths).rows()[10:]
    damage(paths, parts_of(paths)[0], column)
    with caplog.at_level(logging.WARNING):
        assert read_run(paths).rows() == expected
    assert f"left out {parts_of(paths)[0]}" in caplog.text


class Failing(LocalStorage):
    """A disk that stops giving bytes after some of them were read."""

    def __init__(self, error, num_reads):
        self.error, self.num_reads = error, num_reads

    def open_input(self, path):
        storage = self

        class File(io.FileIO):
            def read(self, size=-1):
                storage.num_reads -= 1
                if storage.num_reads < 0:
                    raise storage.error
                return super().read(size)

        return File(path)


@pytest.mark.parametrize("num_reads", [0, 1, 5, 9])
@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "input/output error"), PermissionError(errno.EACCES, "not yours")],
    ids=["disk", "permission"],
)
def test_parts_that_cannot_be_read_at_the_moment_are_not_taken_for_damaged(paths, error, num_reads):
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    names = parts_of(paths)
    with pytest.raises(type(error)):
        RunFolder(Failing(error, num_reads), paths)
    assert parts_of(paths) == names
    (part, *_) = part_files.list_parts(LocalStorage(), paths.images_parquet).parts
    with pytest.raises(type(error)):
        part_files.check_part(Failing(error, 1), part, with_images=True)


def test_an_earlier_run_that_is_damaged_is_reused_as_far_as_it_is_whole(paths, caplog):
    draw_and_stop(paths, make_plan(**PLAN), part_rows=10)
    names = parts_of(paths)
    damage(paths, names[0], "image.bytes")  # read after the image was found
    damage(paths, names[1], "image_id")  # read while images are looked for
    second = RunPaths(f"{paths.root}-second")
    model = Painter()
    with caplog.at_level(logging.WARNING):
        store = draw_plan(second, make_plan(**PLAN, model=model))
    assert (len(model.drawn), store.num_reused) == (20, 20)
    assert f"Cannot reuse all images of {paths.images_parquet}/{names[0]}" in caplog.text
    check_whole(second.root, make_plan(**PLAN))


@pytest.mark.parametrize(
    ("step", "is_at_once", "kind"),
    [
        ("list_sizes", True, PermissionError),
        ("open_input", True, PermissionError),
        ("open_input", True, FileNotFoundError),
        ("open_input", False, FileNotFoundError),  # merged after its footer was read
    ],
)
def test_an_earlier_run_that_cannot_be_read_keeps_no_sweep_from_being_drawn(
    paths, monkeypatch, step, is_at_once, kind
):
    draw_plan(paths, make_plan())
    method, num_calls = getattr(LocalStorage, step), 0

    def fail(self, path):
        nonlocal num_calls
        num_calls += path.startswith(paths.images_parquet)
        if path.startswith(paths.images_parquet) and (is_at_once or num_calls > 1):
            raise kind(2, "another process merged or locked it", path)
        return method(self, path)

    monkeypatch.setattr(LocalStorage, step, fail)
    monkeypatch.setattr(part_files, "_PAUSES_S", (0.0,))
    model = Painter()
    second = RunPaths(f"{paths.root}-second")
    draw_plan(second, make_plan(model=model))
    assert len(model.drawn) == 8
