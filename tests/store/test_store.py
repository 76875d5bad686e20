"""A plan goes in; every request has one row and one whole image, now and after any resume."""

import contextlib
import itertools
import json
import logging
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptlab.errors import StoreError
from promptlab.finishing import finishing
from promptlab.machine import describe_numerics
from promptlab.models.registry import open_model
from promptlab.paths import RunPaths
from promptlab.planning.plan import PlannedModel
from promptlab.png import read_text
from promptlab.records import Request, Result, Source, WorkerShare
from promptlab.run_record import ModelRecord, RunRecord
from promptlab.store import StoreOptions, open_store, read_run, survey
from promptlab.store.parts import list_parts
from promptlab.store.png import read_facts
from promptlab.store.schema import VERSION_KEY
from promptlab.store.storage import LocalStorage
from promptlab.version import __version__
from tests.store.painting import Painter, make_plan, paint
from tests.store.sweeping import (
    NUMERICS,
    check_whole,
    draw_and_stop,
    draw_plan,
    drawn,
    parts_of,
    pixels_of,
)


def sibling(paths, name):
    return RunPaths(f"{paths.root.rpartition('/')[0]}/{name}")


def test_every_request_becomes_one_row_and_one_whole_png(paths):
    plan = make_plan(seeds=range(6))
    store = draw_plan(paths, plan)
    rows = check_whole(paths.root, plan)
    assert store.counts.ok == store.counts.total == len(rows) == 24
    assert {row["status"] for row in rows} == {"ok"}


def test_a_finished_run_has_nothing_to_do_and_its_parts_stay_as_they_are(paths):
    plan = make_plan()
    draw_plan(paths, plan)
    before = {n: os.stat(f"{paths.images_parquet}/{n}").st_mtime_ns for n in parts_of(paths)}
    model = Painter()
    plan = make_plan(model=model)
    store = draw_plan(paths, plan)
    assert (store.num_pending, store.num_done, model.drawn) == (0, 8, [])
    assert before == {
        n: os.stat(f"{paths.images_parquet}/{n}").st_mtime_ns for n in parts_of(paths)
    }


def test_an_interrupted_run_keeps_what_was_drawn_and_draws_only_the_rest(paths):
    plan = make_plan(seeds=range(10))
    with pytest.raises(KeyboardInterrupt), open_store(paths, plan) as store:  # noqa: PT012
        for request in store.pending("painter")[:13]:
            store.add(drawn(request))
        raise KeyboardInterrupt
    assert read_run(paths).num_rows == 13
    model = Painter()
    plan = make_plan(seeds=range(10), model=model)
    draw_plan(paths, plan)
    assert len(model.drawn) == 27
    check_whole(paths.root, plan)


def test_an_extended_axis_draws_only_the_new_cells_and_copies_the_others(paths):
    draw_plan(paths, make_plan(styles=("noto", "openmoji")))
    model = Painter()
    plan = make_plan(styles=("noto", "twemoji", "openmoji"), model=model)
    extended = sibling(paths, "extended")
    assert survey(None, plan, StoreOptions(runs_dir=os.path.dirname(paths.root))).num_reused == 8
    store = draw_plan(extended, plan)
    assert (store.num_reused, len(model.drawn)) == (8, 4)
    old = {row["image_id"]: row for row in read_run(paths).rows()}
    for row in check_whole(extended.root, plan):
        if row["image_id"] in old:
            kept = ("sha256", "created_at", "seconds", "device", "path")
            assert [row[n] for n in kept] == [old[row["image_id"]][n] for n in kept]


def test_earlier_runs_are_looked_for_in_the_folder_that_is_named(paths, tmp_path):
    draw_plan(paths, make_plan())
    elsewhere = RunPaths(str(tmp_path / "elsewhere" / "run"))
    store = draw_plan(elsewhere, make_plan(), runs_dir=os.path.dirname(paths.root))
    assert store.num_reused == 8


def test_a_run_of_a_newer_promptlab_keeps_no_other_from_being_looked_through(paths, caplog):
    draw_plan(paths, make_plan())
    newer = sibling(paths, "newer")  # written last, so looked through first
    os.makedirs(newer.images_parquet)
    Path(newer.sweep_yaml).write_text("")
    table = pa.table({"image_id": ["0" * 16]}, metadata={VERSION_KEY: b"999"})
    pq.write_table(table, newer.part(0))
    store = draw_plan(sibling(paths, "again"), make_plan())
    assert store.num_reused == 8
    assert f"Cannot look for earlier images in {newer.root}" in caplog.text


def test_reuse_false_draws_again_what_earlier_runs_hold(paths):
    draw_plan(paths, make_plan())
    model = Painter()
    store = draw_plan(sibling(paths, "again"), make_plan(model=model), reuse=False)
    assert (store.num_reused, len(model.drawn)) == (0, 8)


def test_images_are_reused_from_a_run_that_keeps_no_bytes_in_parquet(paths):
    plan = make_plan()
    draw_plan(paths, plan, embed_images=False)
    assert read_run(paths).table(["image"])["image"][0].as_py()["bytes"] is None
    lost = read_run(paths).rows()[0]
    os.unlink(paths.join(lost["path"]))
    model = Painter()
    draw_plan(sibling(paths, "second"), make_plan(model=model))
    assert model.drawn == [lost["image_id"]]
    check_whole(sibling(paths, "second").root, plan)


def test_cells_that_ask_for_the_same_image_share_one_drawing_and_have_a_row_each(paths):
    model = Painter()
    plan = make_plan(styles=("noto", "noto"), axes={"note": [1, 2]}, model=model)
    cells = [  # the same prompt and params, so the same images
        type(cell)(**{**_fields(cell), "params": {}, "cell_id": f"{n:016x}"})
        for n, cell in enumerate(plan.cells)
    ]
    plan = type(plan)(plan.sweep, plan.sweep_id, plan.axes, tuple(cells), plan.models)
    draw_plan(paths, plan)
    assert len(model.drawn) == 4
    assert len(check_whole(paths.root, plan)) == 16
    assert sorted(image_id for image_id, _ in read_run(paths).iter_images()) == sorted(model.drawn)


def _fields(cell):
    return {name: getattr(cell, name) for name in cell.__dataclass_fields__}


def test_failed_rows_stay_until_they_are_retried_and_then_one_row_is_left(paths):
    def fail_odd(request):
        return Result(request, error="ValueError: odd") if request.seed % 2 else None

    plan = make_plan(model=Painter(fail_odd))
    store = draw_plan(paths, plan)
    assert (store.counts.ok, store.counts.failed) == (4, 4)
    errors = {row["error"] for row in read_run(paths).rows() if row["status"] == "failed"}
    assert errors == {"ValueError: odd"}
    assert draw_plan(paths, make_plan(model=Painter())).counts.failed == 4

    model = Painter()
    store = draw_plan(paths, make_plan(model=model), retry_failed=True)
    assert (len(model.drawn), store.counts.ok, store.counts.failed) == (4, 8, 0)
    check_whole(paths.root, plan)
    on_disk = sum(part.num_rows for part in list_parts(LocalStorage(), paths.images_parquet).parts)
    assert on_disk == 8  # tools that know nothing of retries see no outdated row either


def test_a_flagged_image_is_kept_with_its_reason(paths):
    black = np.zeros((8, 8, 3), np.uint8)
    plan = make_plan(model=Painter(lambda request: Result(request, pixels=black)))
    store = draw_plan(paths, plan)
    assert store.counts.flagged == 8
    assert {(r["status"], r["error"]) for r in check_whole(paths.root, plan)} == {
        ("flagged", "every pixel is black")
    }
    assert draw_plan(sibling(paths, "again"), plan).num_reused == 8


def test_pixels_may_be_drawn_over_as_soon_as_they_are_added(paths):
    plan = make_plan(seeds=range(8))
    canvas = np.empty((16, 16, 3), np.uint8)
    with open_store(paths, plan) as store, finishing(store.add) as take:
        for request in store.pending("painter"):
            canvas[:] = paint(request.image_id)
            take(Result(request, pixels=canvas), NUMERICS)
    for image_id, png in read_run(paths).iter_images():
        assert (pixels_of(png) == paint(image_id)).all()


def test_a_slow_model_has_its_images_acknowledged_in_time(paths):
    plan = make_plan()
    with open_store(paths, plan, StoreOptions(flush_s=0.05)) as store:
        request = store.pending("painter")[0]
        store.add(drawn(request))
        give_up_at = time.monotonic() + 10
        while read_run(paths).num_rows == 0 and time.monotonic() < give_up_at:
            time.sleep(0.02)
        assert read_run(paths).num_rows == 1


def test_flush_returns_when_all_is_on_disk_and_listeners_get_the_stored_images(paths):
    plan, stored = make_plan(seeds=range(10)), []
    options = StoreOptions(part_rows=16)
    with open_store(paths, plan, options, listeners=[stored.append]) as store:
        for request in store.pending("painter"):
            store.add(drawn(request))
        store.flush()
        assert read_run(paths).num_rows == 40
        assert [len(images) for images in stored] == [16, 16, 8]
    for image in itertools.chain(*stored):
        with open(paths.join(image.row.path), "rb") as file:
            assert file.read() == image.png


def test_flush_raises_where_what_was_added_could_not_be_written(paths):
    with open_store(paths, make_plan()) as store:
        store.add(drawn(store.pending("painter")[0]))
        shutil.rmtree(paths.images)
        with pytest.raises(StoreError, match="Could not write"):
            store.flush()
    assert read_run(paths).num_rows == 0


def test_an_answer_to_nothing_that_was_asked_is_refused(paths):
    with (
        pytest.raises(StoreError, match="not in the plan"),
        open_store(paths, make_plan()) as store,
    ):
        store.add(drawn(Request("f" * 16, "?", 0, {})))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_last_part_is_set_aside_with_one_warning_and_drawn_again(paths, damage, caplog):
    plan = make_plan(seeds=range(10))
    draw_and_stop(paths, plan, part_rows=10)
    last = f"{paths.images_parquet}/{parts_of(paths)[-1]}"
    with open(last, "r+b") as file:
        size = os.path.getsize(last)
        if damage == "flipped":
            file.seek(size // 2)
            file.write(bytes(255 - byte for byte in file.read(64)) or b"?")
        else:
            file.truncate(size // 2 if damage == "truncated" else 0)
    if damage != "flipped":  # reading rows does not look at image bytes
        with caplog.at_level(logging.WARNING):
            assert read_run(paths).num_rows == 30
        assert len(caplog.records) == 1
        caplog.clear()
    model = Painter()
    plan = make_plan(seeds=range(10), model=model)
    with caplog.at_level(logging.WARNING):
        draw_plan(paths, plan)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert len(model.drawn) == 10
    check_whole(paths.root, plan)


def test_leftovers_of_interrupted_writes_are_removed(paths):
    plan = make_plan()
    draw_plan(paths, plan)
    for folder in (paths.images, paths.images_parquet):
        with open(f"{folder}/.half.png.tmp", "wb") as file:
            file.write(b"half")
    draw_plan(paths, plan)
    assert not any(name.endswith(".tmp") for name in os.listdir(paths.images))
    assert not any(name.endswith(".tmp") for name in os.listdir(paths.images_parquet))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_ends_the_run_with_one_message_and_the_same_command_goes_on(paths, monkeypatch):
    plan = make_plan(seeds=range(20))
    real_open = open

    def full_after_30(path, *args, **kwargs):
        if str(path).endswith(f".png.{os.getpid()}.tmp") and len(os.listdir(paths.images)) > 30:
            return real_open("/dev/full", *args, **kwargs)
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", full_after_30)
    with pytest.raises(StoreError, match=r"disk is full.*20 images are safe.*same command"):
        draw_plan(paths, plan, part_rows=20)
    monkeypatch.undo()
    assert not [name for name in os.listdir(paths.images) if name.endswith(".tmp")]
    assert read_run(paths).num_rows == 20
    draw_plan(paths, plan)
    check_whole(paths.root, plan)


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("embed_images", [True, False])
def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(small_disk, embed_images):
    paths = RunPaths(str(small_disk / "runs" / "one"))
    plan = make_plan(seeds=range(300))
    with pytest.raises(StoreError, match=r"disk is full.*images are safe"):
        draw_plan(paths, plan, part_rows=20, embed_images=embed_images)
    num_safe = read_run(paths).num_rows
    assert num_safe > 0
    assert not [n for n in os.listdir(paths.images_parquet) if n.endswith(".tmp")]
    with pytest.raises(StoreError, match="disk is full"):  # still so: one message again
        draw_plan(paths, plan, part_rows=20, embed_images=embed_images)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    model = Painter()
    draw_plan(paths, make_plan(seeds=range(300), model=model), embed_images=embed_images)
    assert len(model.drawn) <= plan.num_images - num_safe
    check_rows(paths, plan)


def check_rows(paths, plan):
    rows = read_run(paths).rows()
    assert len(rows) == len({(row["cell_id"], row["seed"]) for row in rows}) == plan.num_images
    assert all(os.path.getsize(paths.join(row["path"])) > 100 for row in rows)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "runs").write_text("a file where a folder is wanted")
    with (
        pytest.raises(StoreError, match="is not a folder"),
        open_store(RunPaths(str(tmp_path / "runs" / "one")), make_plan()),
    ):
        pass


def test_the_writing_thread_ends_with_the_store(paths):
    draw_plan(paths, make_plan())
    assert not [t for t in threading.enumerate() if t.name == "promptlab-store"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([True], ["x"]),
        ([0.1, 2.0, 1e30], ["x"]),
        (["x"], [3]),
        ([3], [0.1]),
        ([3], [True]),
        ([3], [2**70]),
    ],
    ids=repr,
)
def test_a_run_in_two_sessions_has_the_rows_of_one_whatever_the_kinds_of_its_values(
    tmp_path, first, second
):
    def rows_of(name, *plans):
        paths = RunPaths(str(tmp_path / name))
        for values in plans:
            draw_plan(paths, make_plan(("a fox",), ("noto",), (0,), axes={"light": values}))
        run = read_run(paths)
        return {row["cell_id"]: row["light"] for row in run.rows()}, run.axes

    assert rows_of("two", first, second) == rows_of("one", [*first, *second])


def test_a_later_plan_of_the_same_folder_widens_its_columns(paths):
    draw_plan(paths, make_plan(axes={"top_k": [1, 2]}))
    draw_plan(paths, make_plan(axes={"top_k": [2, 2.5]}))
    run = read_run(paths)
    assert [axis.kind for axis in run.axes] == ["float"]
    assert sorted(set(run.table(["top_k"])["top_k"].to_pylist())) == [1.0, 2.0, 2.5]
    assert run.record.axes["top_k"] == (1, 2, 2.5)
    assert len(run.record.resumed_at) == 1


def test_an_image_answered_twice_counts_once(paths):
    with open_store(paths, make_plan()) as store:
        for request in store.pending("painter"):
            store.add(drawn(request))
            store.add(drawn(request, error="its worker was lost after drawing it"))
    assert len(check_whole(paths.root, make_plan())) == 8
    assert {row["status"] for row in read_run(paths).rows()} == {"ok"}


def test_an_image_that_several_cells_ask_for_is_reused_for_each_of_them(paths):
    draw_plan(paths, make_plan(subjects=("a fox",), styles=("noto",)))
    plan = make_plan(subjects=("a fox",), styles=("noto",))
    (cell,) = plan.cells
    cells = tuple(replace(cell, cell_id=f"{n:016x}", style=f"style {n}") for n in range(3))
    plan = replace(plan, cells=cells)
    store = draw_plan(sibling(paths, "second"), plan)
    assert (store.num_reused, store.counts.total) == (6, 6)
    rows = check_whole(sibling(paths, "second").root, plan)
    assert {(row["style"], row["seed"]) for row in rows} == {
        (f"style {n}", seed) for n in range(3) for seed in (0, 1)
    }


def test_an_image_that_two_earlier_runs_hold_is_found_once(paths):
    draw_plan(paths, make_plan())
    draw_plan(sibling(paths, "again"), make_plan(), reuse=False)
    options = StoreOptions(runs_dir=os.path.dirname(paths.root))
    found = survey(None, make_plan(seeds=(0, 1, 2)), options)
    assert (found.num_reused, found.num_pending) == (8, 4)


def test_of_two_rows_for_one_request_the_later_counts_before_parts_are_merged(paths):
    failing = Painter(lambda request: Result(request, error="not today"))
    draw_plan(paths, make_plan(model=failing))
    draw_and_stop(paths, make_plan(), num_images=3, retry_failed=True)
    assert len(parts_of(paths)) == 2
    rows = read_run(paths).rows()
    assert len(rows) == read_run(paths).num_rows == 8
    assert sum(row["status"] == "ok" for row in rows) == 3


def test_rows_stand_in_the_order_of_drawing_before_parts_are_merged_and_after(paths):
    def fail_odd(request):
        return Result(request, error="odd") if request.seed % 2 else None

    draw_plan(paths, make_plan(model=Painter(fail_odd)))
    first = [row["image_id"] for row in read_run(paths).rows()]
    draw_and_stop(paths, make_plan(), retry_failed=True)
    assert len(parts_of(paths)) == 2
    order = [row["image_id"] for row in read_run(paths).rows()]
    assert order == [*first[::2], *first[1::2]], "what was drawn again was drawn last"
    draw_plan(paths, make_plan())
    assert len(parts_of(paths)) == 1
    assert [row["image_id"] for row in read_run(paths).rows()] == order


def test_what_is_done_is_counted_over_all_that_was_asked_for(paths):
    """A run that grew while it was drawn, and another session that asks for the same."""
    plan, grown = make_plan(styles=("noto",)), make_plan(styles=("openmoji",), seeds=range(3))
    for num_done in ((0, 0), (4, 10)):
        with open_store(paths, plan) as store:
            assert store.num_done == num_done[0]
            store.extend(grown.cells)
            assert store.num_done == num_done[1]
            for request in store.pending("painter"):
                store.add(drawn(request))
        assert store.counts.ok == 10


def test_a_plan_that_grows_by_what_it_holds_stays_as_it_is(paths):
    plan = make_plan()
    with open_store(paths, plan) as store:
        for request in store.pending("painter"):
            store.add(drawn(request))
        store.extend(plan.cells)
        assert (store.num_done, store.num_pending) == (0, 0)
        store.extend([replace(plan.cells[0], seeds=(2,))])
        assert (store.num_done, store.num_pending) == (0, 1)
        for request in store.pending("painter"):
            store.add(drawn(request))
    assert read_run(paths).num_rows == read_run(paths).record.num_images == 9


def test_the_file_of_an_image_says_all_that_made_it(paths):
    draw_plan(paths, make_plan(axes={"top_k": [8]}, seeds=[3]))
    for row in read_run(paths).rows():
        with open(paths.join(row["path"]), "rb") as file:
            facts = read_facts(file.read())
        named = ("image_id", "prompt", "seed", "model", "model_fingerprint", "dtype", "subject")
        assert facts == {
            "promptlab_version": __version__,
            **{name: row[name] for name in (*named, "style", "template")},
            "params": json.loads(row["params"]),
            "axes": {"top_k": 8},
        }


def test_a_reused_image_carries_its_new_cells_subject_style_and_axes(paths):
    draw_plan(paths, make_plan(subjects=("a fox",), styles=("noto",)))
    plan = make_plan(subjects=("a fox",), styles=("noto",))
    cells = [replace(c, subject="fox", style="own", axes={"light": "dawn"}) for c in plan.cells]
    other = sibling(paths, "second")
    store = draw_plan(other, replace(plan, cells=tuple(cells)))
    assert (store.num_reused, store.counts.total) == (2, 2)
    fresh = sibling(paths, "fresh")
    draw_plan(fresh, replace(plan, cells=tuple(cells)), reuse=False)
    assert dict(read_run(other).iter_images()) == dict(read_run(fresh).iter_images())
    for row in check_whole(other.root, plan):
        with open(other.join(row["path"]), "rb") as file:
            facts = read_facts(file.read())
        assert (facts["subject"], facts["style"], facts["axes"]) == (
            "fox",
            "own",
            {"light": "dawn"},
        )
        assert (facts["image_id"], facts["seed"]) == (row["image_id"], row["seed"])


def test_an_image_of_another_cell_of_the_run_stays_the_file_that_it_is(paths):
    draw_plan(paths, make_plan(styles=("noto",)))
    cells = [replace(c, style="own", cell_id=c.cell_id[::-1]) for c in make_plan().cells[::2]]
    plan = replace(make_plan(styles=("noto",)), cells=tuple(cells))
    before = dict(read_run(paths).iter_images())
    store = draw_plan(paths, plan)
    assert (store.num_reused, store.counts.total) == (4, 8)
    assert dict(read_run(paths).iter_images()) == before
    for row in read_run(paths).rows():
        with open(paths.join(row["path"]), "rb") as file:
            assert file.read() == before[row["image_id"]]


def test_a_plan_that_grows_draws_the_new_cells_and_no_image_twice(paths):
    first, second = make_plan(styles=("noto",)), make_plan(styles=("noto", "openmoji"))
    new = [cell for cell in second.cells if cell.style == "openmoji"]
    same_images = [replace(cell, cell_id=cell.cell_id[::-1]) for cell in first.cells]
    with open_store(paths, first) as store:
        requests = store.pending("painter")
        for request in requests[:3]:
            store.add(drawn(request))
        store.extend([*new, *same_images])
        assert store.num_reused == 3
        assert store.pending("painter")[0] == requests[3]
        for request in store.pending("painter"):
            store.add(drawn(request))
    rows = check_whole(paths.root, replace(second, cells=(*first.cells, *new, *same_images)))
    record = read_run(paths).record
    assert (record.num_cells, record.num_images) == (6, 12)
    assert record.axes["style"] == ("noto", "openmoji")
    assert len({row["image_id"] for row in rows}) == 8


def test_a_row_says_what_its_bits_depend_on_and_what_it_cost(paths):
    with open_store(paths, make_plan()) as store:
        for request in store.pending("painter"):
            store.add(drawn(request, cost_usd=0.04 if request.seed else None))
    rows = read_run(paths).rows()
    assert {(row["seed"], row["cost_usd"]) for row in rows} == {(0, None), (1, 0.04)}
    assert {row["numerics"] for row in rows} == {describe_numerics("cpu")}
    assert {row["source_id"] for row in rows} == {None}


def test_a_resumed_run_keeps_its_id_and_the_time_it_was_made(paths):
    draw_and_stop(paths, make_plan(), num_images=3)
    first = read_run(paths).record
    moved = replace(first, created_at="2020-01-01T00:00:00+00:00", further={"new": 1})
    with open(paths.sweep_yaml, "w") as file:
        file.write(moved.to_yaml())
    draw_plan(paths, make_plan())
    record = read_run(paths).record
    assert (record.run_id, record.created_at) == (first.run_id, "2020-01-01T00:00:00+00:00")
    assert len(record.resumed_at) == 1
    draw_plan(paths, make_plan())
    assert read_run(paths).record.resumed_at[:1] == record.resumed_at
    assert len(read_run(paths).record.resumed_at) == 2
    assert record.further == {"new": 1}  # a key of a newer promptlab


def test_a_resumed_run_keeps_all_that_its_earlier_sessions_noted(paths):
    """Beside what the command says anew, sweep.yaml only grows."""
    share = WorkerShare(images=3, seconds=1.5, restarts=1)
    with contextlib.suppress(KeyboardInterrupt), open_store(paths, make_plan()) as store:
        store.note_workers({"gpu 0": share})
        raise KeyboardInterrupt
    enlarger = ModelRecord(name="enlarger", needs_source=True, is_deterministic=True)
    first = read_run(paths).record
    noted = replace(
        first,
        axes={**first.axes, "light": ("dusk", "noon")},
        models={
            "painter": replace(first.models["painter"], is_deterministic=False),
            "enlarger": enlarger,
        },
        models_config={"enlarger": {"scale": 4}},
    )
    with open(paths.sweep_yaml, "w") as file:
        file.write(noted.to_yaml())
    painter = Painter()
    painter.is_deterministic = None  # this session does not know
    other = make_plan(subjects=("a fox", "a cat"), model=painter)
    with open_store(paths, other) as store:
        store.note_workers({"gpu 0": share, "gpu 1": WorkerShare(images=1)})
    record = read_run(paths).record
    assert record.workers == {"gpu 0": share + share, "gpu 1": WorkerShare(images=1)}
    assert record.axes["light"] == ("dusk", "noon")
    assert record.axes["subject"] == ("a fox", "a robot", "a cat")
    assert record.models["enlarger"] == enlarger
    assert record.models["painter"].is_deterministic is False
    assert record.models_config == {"enlarger": {"scale": 4}}


def test_a_batchs_bytes_are_counted_from_zero_after_each_write(paths, monkeypatch):
    monkeypatch.setattr("promptlab.store.pipeline.MAX_BATCH_BYTES", 3500)
    stored = []
    with open_store(paths, make_plan(seeds=range(10)), listeners=[stored.append]) as store:
        for request in store.pending("painter"):
            store.add(drawn(request))
    assert {len(image.png) for images in stored for image in images} <= set(range(900, 1700))
    assert {len(images) for images in stored[:-1]} <= {3, 4}


def test_a_reused_image_of_a_sweep_from_picks_names_its_parents(paths):
    def with_parents(*parent_ids):
        cells = tuple(replace(cell, parent_ids=parent_ids) for cell in make_plan().cells)
        return replace(make_plan(), cells=cells)

    draw_plan(paths, with_parents("a" * 16))
    expected = {"second": ("b" * 16, "c" * 16), "third": ()}
    for name, parent_ids in expected.items():
        store = draw_plan(sibling(paths, name), with_parents(*parent_ids), runs_dir=None)
        assert store.num_reused == 8
    found = {name: read_run(sibling(paths, name)).rows() for name in expected}
    assert {tuple(row["parent_ids"]) for row in found["second"]} == {("b" * 16, "c" * 16)}
    assert all(row["parent_ids"] for row in found["third"]), "the image's own lineage stays"


def test_steps_in_the_png_are_the_steps_taken(paths):
    draw_plan(paths, make_plan(axes={"steps": [10, 20]}))
    for row in read_run(paths).rows():
        text = read_text(read_run(paths).image_bytes(row["image_id"]), "parameters")
        assert f"\nSteps: {row['steps']}, Sampler: " in text
    with open_store(sibling(paths, "embedded"), embedded_plan()) as store:
        (request,) = store.pending("tiny")
        store.add(drawn(request))
    ((_, png),) = read_run(sibling(paths, "embedded")).iter_images()
    assert "\nSteps: 100, Sampler: top-k, " in read_text(png, "parameters")  # its image tokens


def embedded_plan():
    """Return a plan of one image of the embedded model."""
    planned = PlannedModel.of(open_model({"_target_": "promptlab.models.dalle.open_tiny"}))
    (cell,) = make_plan(subjects=("a fox",), styles=("noto",), seeds=(0,)).cells
    cell = replace(cell, model="tiny", model_key="tiny")
    return replace(make_plan(), cells=(cell,), models={"tiny": planned})


def test_a_listener_that_fails_stops_no_images(paths, caplog):
    def fail(images):
        raise RuntimeError("the page is gone")

    stored = []
    draw_plan(paths, make_plan(), listeners=[fail, stored.append])
    assert len(check_whole(paths.root, make_plan())) == 8
    assert sum(map(len, stored)) == 8
    assert "the page is gone" in caplog.text


def test_an_image_that_failed_in_an_earlier_run_is_not_reused_from_there(paths):
    def fail(request):
        return Result(request, error="ValueError: no")

    draw_plan(paths, make_plan(subjects=("a fox",)))
    failed = sibling(paths, "failed")
    draw_plan(failed, make_plan(model=Painter(fail)), reuse=False)
    os.utime(failed.sweep_yaml, (time.time() + 60,) * 2)  # the newest run
    runs_dir = os.path.dirname(paths.root)
    found = survey(None, make_plan(), StoreOptions(runs_dir=runs_dir))
    assert (found.num_reused, found.num_pending) == (4, 4)
    model = Painter()
    store = draw_plan(sibling(paths, "third"), make_plan(model=model))
    assert (store.num_reused, len(model.drawn), store.counts.ok) == (4, 4, 8)


def test_a_cell_that_is_asked_for_more_seeds_draws_those_alone(paths):
    with open_store(paths, make_plan(seeds=(0, 1))) as store:
        store.add(drawn(store.pending("painter")[0]))
        store.extend(make_plan(seeds=(1, 2, 0)).cells[:1])
        requests = store.pending("painter")
        assert [request.seed for request in requests] == [1, 0, 1, 0, 1, 0, 1, 2]
        for request in requests:
            store.add(drawn(request))
    cells = make_plan(seeds=(0, 1)).cells
    check_whole(paths.root, replace(make_plan(), cells=(*make_plan(seeds=(2,)).cells[:1], *cells)))
    record = read_run(paths).record
    assert (record.num_cells, record.num_images) == (4, 9)
    assert record.axes["seed"] == (0, 1, 2)


def test_row_and_png_name_the_image_that_one_is_drawn_from(paths):
    source = Source("f" * 16, "0" * 64, is_repeatable=False)
    cells = tuple(replace(cell, source=source) for cell in make_plan().cells)
    plan = replace(make_plan(), cells=cells)
    draw_plan(paths, plan)
    known = {"source_id": "f" * 16, "source_sha256": "0" * 64, "is_source_repeatable": False}
    for row in check_whole(paths.root, plan):
        facts = read_facts(read_run(paths).image_bytes(row["image_id"]))
        assert {name: row[name] for name in known} == known
        assert known.items() <= facts.items()


def test_parts_merged_while_a_sweep_is_drawn_lose_no_row_that_comes_after(paths, monkeypatch):
    for module in ("compaction", "folder"):
        monkeypatch.setattr(f"promptlab.store.{module}.TARGET_ROWS", 10)
    draw_plan(paths, make_plan(seeds=range(10)), part_rows=4)
    check_whole(paths.root, make_plan(seeds=range(10)))
    assert len(parts_of(paths)) == 4


def test_large_images_are_merged_by_their_bytes_while_a_sweep_is_drawn(paths, monkeypatch):
    for module in ("compaction", "folder"):
        monkeypatch.setattr(f"promptlab.store.{module}.TARGET_BYTES", 60_000)
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=4)
    check_whole(paths.root, make_plan(seeds=range(10)))
    assert len(parts_of(paths)) < 10


def test_images_retried_while_parts_are_merged_leave_no_outdated_row(paths, monkeypatch):
    for module in ("compaction", "folder"):
        monkeypatch.setattr(f"promptlab.store.{module}.TARGET_ROWS", 12)
    failing = Painter(lambda request: Result(request, error="not today"))
    draw_plan(paths, make_plan(seeds=range(10), model=failing), part_rows=4)
    store = draw_plan(paths, make_plan(seeds=range(10)), part_rows=4, retry_failed=True)
    assert (store.counts.ok, store.counts.failed) == (40, 0)
    parts = list_parts(LocalStorage(), paths.images_parquet).parts
    assert sum(part.num_rows for part in parts) == 40
    check_whole(paths.root, make_plan(seeds=range(10)))


def test_of_a_model_that_has_changed_sweep_yaml_says_what_it_is_now(paths):
    record = RunRecord(models_config={"painter": {"path": "old"}, "other": {"path": "kept"}})
    draw_plan(paths, make_plan(), record=record)
    painter = Painter()
    painter.is_deterministic, painter.device = False, "cuda"
    moved = RunRecord(models_config={"painter": {"path": "new"}})
    with open_store(paths, make_plan(model=painter), record=moved):
        record = read_run(paths).record
    assert record.models["painter"].device == "cuda"
    assert record.models["painter"].is_deterministic is False
    assert record.models_config == {"painter": {"path": "new"}, "other": {"path": "kept"}}


def test_ctrl_c_stays_what_it_is_where_the_last_images_cannot_be_written(paths, caplog):
    with pytest.raises(KeyboardInterrupt), open_store(paths, make_plan()) as store:  # noqa: PT012
        store.add(drawn(store.pending("painter")[0]))
        shutil.rmtree(paths.images)
        raise KeyboardInterrupt
    assert "Could not write" in caplog.text


def test_a_survey_counts_failed_rows_and_each_image_once_however_many_cells_want_it(paths):
    def fail_first(request):
        return Result(request, error="no") if request.seed == 0 else None

    draw_plan(paths, make_plan(model=Painter(fail_first)))
    plan = make_plan(seeds=(0, 1, 2))
    twins = tuple(replace(cell, cell_id=cell.cell_id[::-1]) for cell in plan.cells)
    plan = replace(plan, cells=(*plan.cells, *twins))
    found = survey(paths, plan, StoreOptions(reuse=False))
    # Of 4 cells and their twins: seed 0 is drawn for the twins alone, seed 1 copied, seed 2 new.
    assert (found.num_done, found.num_failed) == (8, 4)
    assert (found.num_reused, found.num_pending) == (4, 8)
    again = survey(paths, plan, StoreOptions(reuse=False, retry_failed=True))
    assert (again.num_done, again.num_failed) == (4, 0)
    assert (again.num_reused, again.num_pending) == (4, 8)


@pytest.mark.parametrize(
    "options", [{"part_rows": 0}, {"flush_s": -0.1}, {"flush_s": float("nan")}], ids=str
)
def test_options_that_would_acknowledge_nothing_are_refused(options):
    assert StoreOptions(part_rows=1, flush_s=0.0).part_rows == 1
    with pytest.raises(StoreError, match="at least 1 row and 0 seconds"):
        StoreOptions(**options)


def test_what_is_still_to_draw_is_known_by_the_columns_of_its_rows(paths):
    plan = make_plan(subjects=("a fox",), styles=("noto",), axes={"Seed": ["x"]})
    with open_store(paths, plan) as store:
        first, second = store.pending("painter")
        store.add(drawn(first))
        (pending,) = store.pending_rows()
        store.add(drawn(second))
        assert list(store.pending_rows()) == []
    (row,) = (row for row in read_run(paths).rows() if row["image_id"] == second.image_id)
    assert pending.pop("status") == "pending"
    assert pending.pop("parent_ids") == ()
    assert pending["axis_Seed"] == "x"
    assert pending == {name: row[name] for name in pending}


def test_what_a_model_showed_while_it_drew_is_noted_when_the_run_is_interrupted(paths):
    painter = Painter()
    painter.is_deterministic = None
    with contextlib.suppress(KeyboardInterrupt), open_store(paths, make_plan(model=painter)):
        painter.is_deterministic = False
        raise KeyboardInterrupt
    assert read_run(paths).record.models["painter"].is_deterministic is False


def test_a_model_that_joins_a_run_is_described_in_sweep_yaml(paths):
    other = Painter()
    other.name = "other"
    planned = PlannedModel.of(other, "other option", {"scale": 4})
    cells = [replace(c, model="other", model_key="other", seeds=(7,)) for c in make_plan().cells]
    record = RunRecord(models_config={"painter": {"path": "old"}})
    with open_store(paths, make_plan(), record=record) as store:
        store.extend([replace(c, cell_id=c.cell_id[::-1]) for c in cells], {"other": planned})
        assert len(store.pending("other")) == 4
    record = read_run(paths).record
    assert record.models_config == {"painter": {"path": "old"}, "other": {"scale": 4}}
    assert record.models["other"].option == "other option"
    assert record.models.keys() == {"painter", "other"}
