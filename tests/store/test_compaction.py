"""Which parts are merged, and that nothing but their number changes."""

from __future__ import annotations

import os

import pytest

from promptlab.paths import RunPaths
from promptlab.records import Result
from promptlab.store import compaction, read_run
from promptlab.store.folder import RunFolder
from promptlab.store.parts import list_parts
from promptlab.store.pipeline import StoredImage
from promptlab.store.storage import LocalStorage
from tests.store.painting import Painter, make_plan
from tests.store.sweeping import draw_and_stop, draw_plan, essence, parts_of


@pytest.fixture(autouse=True)
def _parts_of_twenty_rows_are_large(monkeypatch):
    monkeypatch.setattr(compaction, "TARGET_ROWS", 20)


def rows_of_parts(paths) -> list[tuple[int, int]]:
    """Return (number, rows) of the parts that count."""
    found = list_parts(LocalStorage(), paths.images_parquet)
    assert not found.replaced
    return [(part.number, part.num_rows) for part in found.parts]


def test_small_parts_are_merged_up_to_the_target_in_order_of_drawing(paths):
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=4)
    before = [(row["cell_id"], row["seed"]) for row in read_run(paths).rows()]
    assert rows_of_parts(paths) == [(number, 4) for number in range(10)]
    draw_plan(paths, make_plan(seeds=range(10)))
    assert rows_of_parts(paths) == [(10, 20), (11, 20)]
    assert [(row["cell_id"], row["seed"]) for row in read_run(paths).rows()] == before


def test_parts_are_merged_up_to_the_target_of_bytes(paths, monkeypatch):
    draw_and_stop(paths, make_plan(seeds=range(4)), part_rows=2)
    (size, *_) = (os.path.getsize(f"{paths.images_parquet}/{name}") for name in parts_of(paths))
    monkeypatch.setattr(compaction, "TARGET_BYTES", 3.5 * size)
    draw_plan(paths, make_plan(seeds=range(4)))
    large = rows_of_parts(paths)
    assert [rows for _, rows in large] == [8, 8]
    (size, *_) = (os.path.getsize(f"{paths.images_parquet}/{name}") for name in parts_of(paths))
    monkeypatch.setattr(compaction, "TARGET_BYTES", size)
    draw_plan(paths, make_plan(seeds=range(5)))
    assert rows_of_parts(paths)[:2] == large


def test_large_parts_stay_as_they_are_beside_new_small_ones(paths):
    draw_plan(paths, make_plan(seeds=range(5)), part_rows=20)
    (large,) = parts_of(paths)
    written = os.stat(f"{paths.images_parquet}/{large}").st_mtime_ns
    draw_plan(paths, make_plan(seeds=range(7)), part_rows=4)
    assert rows_of_parts(paths) == [(0, 20), (3, 8)]
    assert os.stat(f"{paths.images_parquet}/{large}").st_mtime_ns == written


def test_a_large_part_is_written_again_without_the_rows_that_newer_ones_replace(paths):
    def fail(request):
        return Result(request, error="not today") if request.seed == 0 else None

    draw_plan(paths, make_plan(seeds=range(10), model=Painter(fail)), part_rows=20)
    assert [rows for _, rows in rows_of_parts(paths)] == [20, 20]
    draw_plan(paths, make_plan(seeds=range(10)), retry_failed=True)
    whole = essence(read_run(paths).rows())
    assert len(whole) == sum(rows for _, rows in rows_of_parts(paths)) == 40
    assert {row["status"] for row in read_run(paths).rows()} == {"ok"}


def test_after_a_merge_the_writer_knows_the_parts_of_the_folder(paths):
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=4)
    folder = RunFolder(LocalStorage(), paths)
    folder.compact()
    on_disk = list_parts(LocalStorage(), paths.images_parquet).parts
    assert [part.name for part in folder.parts] == [part.name for part in on_disk]


def test_after_a_merge_that_failed_in_the_middle_no_part_is_written_over(paths, monkeypatch):
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=4)
    kept = essence(read_run(paths).rows())
    stored: list[StoredImage] = []
    draw_plan(RunPaths(f"{paths.root}-other"), make_plan(("an owl",)), listeners=[stored.extend])
    folder = RunFolder(LocalStorage(), paths)
    write_part = compaction.write_part
    written: list[str] = []

    def fail_the_second_time(storage, path, *args, **options):
        written.append(path)
        if len(written) == 2:
            raise OSError("no space left")
        return write_part(storage, path, *args, **options)

    monkeypatch.setattr(compaction, "write_part", fail_the_second_time)
    folder.compact()
    assert rows_of_parts(paths) == [*((number, 4) for number in range(5, 10)), (10, 20)]
    assert {part.name for part in folder.parts} == set(parts_of(paths))
    folder.write(stored, embed_images=True)
    rows = read_run(paths).rows()
    assert essence([row for row in rows if row["subject"] != "an owl"]) == kept
    assert len(rows) == len(kept) + len(stored)


def test_a_number_of_a_part_is_never_used_twice(paths):
    seen: set[str] = set()
    for num_seeds in range(1, 6):
        held = set(parts_of(paths)) if seen else set()
        draw_and_stop(paths, make_plan(seeds=range(num_seeds)), part_rows=2)
        written = set(parts_of(paths)) - held
        assert written
        assert written.isdisjoint(seen)
        seen |= written
        draw_plan(paths, make_plan(seeds=range(num_seeds)))  # merges
        merged = set(parts_of(paths)) - held - written
        assert merged.isdisjoint(seen)
        seen |= merged
