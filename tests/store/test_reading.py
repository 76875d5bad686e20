"""The run folder is read as it is by everyone's tools, and fast by ours."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest

from promptlab.errors import StoreError
from promptlab.paths import RunPaths
from promptlab.records import Result
from promptlab.store import find_image, list_runs, newest_run, open_store, read_run
from promptlab.store.compaction import compact
from promptlab.store.folder import RunFolder
from promptlab.store.parts import list_parts
from promptlab.store.speed import Drawer, seconds_per_image
from promptlab.store.storage import LocalStorage
from tests.store.painting import Painter, make_plan, paint
from tests.store.sweeping import check_whole, draw_and_stop, draw_plan, essence, pixels_of

PLAN = {"axes": {"temperature": [0.5, 1], "prompt": ["x", "y"], "is_warm": [True, None]}}


@pytest.fixture
def run(paths):
    draw_plan(paths, make_plan(**PLAN), part_rows=7)
    return read_run(paths)


def test_columns_stand_in_order_and_axes_are_typed_columns_of_their_own(run):
    table = run.table()
    assert table.column_names[11:16] == [
        "arm_id",
        "temperature",
        "axis_prompt",
        "is_warm",
        "params",
    ]
    assert [str(table.schema.field(n).type) for n in ("temperature", "axis_prompt", "is_warm")] == [
        "double",
        "string",
        "bool",
    ]
    assert [axis.name for axis in run.axes] == ["temperature", "prompt", "is_warm"]
    row = run.rows()[-1]
    assert (row["temperature"], row["axis_prompt"], row["is_warm"]) == (1.0, "y", None)
    assert json.loads(row["params"])["temperature"] == 1
    assert row["created_at"].tzinfo is not None


def test_pandas_duckdb_and_polars_read_the_folder_as_it_is(run):
    import duckdb
    import pandas as pd
    import polars as pl

    folder, num_rows = run.paths.images_parquet, run.num_rows
    assert len(pd.read_parquet(folder)) == num_rows
    assert len(pl.read_parquet(folder)) == num_rows
    counted = duckdb.sql(
        f"select style, count(*) from '{folder}/*.parquet' group by style order by 1"
    )
    assert counted.fetchall() == [("noto", num_rows // 2), ("openmoji", num_rows // 2)]


def test_datasets_shows_the_images(run, tmp_path):
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "parquet", data_dir=run.paths.images_parquet, cache_dir=str(tmp_path / "cache")
    )["train"]
    assert len(loaded) == run.num_rows
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded[0]["image"].size == (16, 16)
    assert loaded.features["temperature"].dtype == "float64"


def test_datasets_joins_runs_with_different_axes(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    parts = []
    for name, axes in {"a": {"temperature": [0.5, 1]}, "b": {"top_k": [8, 16]}}.items():
        paths = RunPaths(str(tmp_path / name))
        draw_plan(paths, make_plan(seeds=(0,), axes=axes, sweep=name))
        loaded = datasets.load_dataset(
            "parquet", data_dir=paths.images_parquet, cache_dir=str(tmp_path / f"cache_{name}")
        )
        parts.append(loaded["train"])
    joined = datasets.concatenate_datasets(parts)
    assert len(joined) == sum(map(len, parts)) == 16
    assert set(joined[:8]["top_k"]) == {None}
    assert set(joined[8:]["top_k"]) == {8, 16}
    assert set(joined[8:]["temperature"]) == {None}
    assert joined[15]["image"].size == (16, 16)


def test_image_bytes_lie_uncompressed_in_row_groups_that_a_metadata_scan_skips(paths):
    plan = make_plan(seeds=range(60))
    draw_plan(paths, plan)
    (part,) = list_parts(LocalStorage(), paths.images_parquet).parts
    metadata = pq.ParquetFile(part.path).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [
        100,
        100,
        40,
    ]
    group = metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert columns["image.bytes"].compression == "UNCOMPRESSED"
    assert not any("DICTIONARY" in encoding for encoding in columns["image.bytes"].encodings)
    assert columns["style"].compression == "ZSTD"


def test_images_are_found_by_id_from_file_or_parquet(run):
    image_id, path = (run.rows()[3][name] for name in ("image_id", "path"))
    from_file = run.image_bytes(image_id)
    os.unlink(run.paths.join(path))
    assert run.image_bytes(image_id) == from_file
    assert (pixels_of(from_file) == paint(image_id)).all()
    assert run.image_bytes("f" * 16) is None
    assert dict(run.iter_images([image_id])) == {image_id: from_file}


def test_the_time_of_an_image_is_the_mean_of_those_that_took_any_of_that_model_and_device(tmp_path):
    def run(folder, seconds, **painter):
        model = Painter(lambda r: Result(r, paint(r.image_id), seconds=seconds[r.seed]))
        for key, value in painter.items():
            setattr(model, key, value)
        plan = make_plan(("a fox",), ("noto",), range(len(seconds)), model=model)
        draw_plan(RunPaths(f"{tmp_path}/{folder}"), plan, reuse=False)

    run("one", [2.0, 0.0, 4.0])  # 0: imported, or reused by somebody else's program
    run("two", [0.0, 0.0], name="other")
    drawers = [
        Drawer("painter", "cpu", "float32"),
        Drawer("other", "cpu", "float32"),
        Drawer("painter", "cuda", "float32"),
        Drawer("painter", "cpu", "bfloat16"),
    ]
    assert seconds_per_image(drawers, str(tmp_path)) == {drawers[0]: 3.0}
    assert seconds_per_image(drawers, str(tmp_path / "nothing")) == {}


def test_a_run_that_is_looked_at_again_is_as_it_is_now_in_all_that_it_tells(paths):
    def told(run):
        images = {row["image_id"]: run.image_bytes(row["image_id"]) for row in run.rows()}
        assert images == dict(run.iter_images())
        return run.num_rows, run.axes, run.sweep, run.record, images

    draw_and_stop(paths, make_plan(), num_images=3)
    run = read_run(paths)
    before = told(run)
    draw_and_stop(paths, make_plan(axes={"light": ["dusk", "noon"]}, sweep="another name"))
    assert told(run) == before
    run.refresh()
    now = told(run)
    assert now == told(read_run(paths))
    assert not any(old == new for old, new in zip(before, now, strict=True))


def test_an_unknown_column_is_an_error_that_lists_them(run):
    with pytest.raises(StoreError, match=r"no column colour.*image_id, cell_id"):
        run.table(["colour"])


def test_an_image_is_found_by_the_beginning_of_its_id(run):
    runs_dir = os.path.dirname(run.paths.root)
    image_id = run.rows()[0]["image_id"]
    found, row = find_image(image_id[:12], runs_dir)
    assert (row["image_id"], found.paths) == (image_id, run.paths)
    with pytest.raises(StoreError, match="No run below"):
        find_image("zz", runs_dir)
    with pytest.raises(StoreError, match=r"Add digits\."):
        find_image(_shared_beginning(run), runs_dir)


def _shared_beginning(run):
    ids = sorted({row["image_id"] for row in run.rows()})
    return next(a[:1] for a, b in itertools.pairwise(ids) if a[0] == b[0])


def test_the_newest_run_is_the_one_written_last(tmp_path):
    plan = make_plan()
    for name in ("b", "a"):
        draw_plan(RunPaths(str(tmp_path / name)), plan)
    os.utime(tmp_path / "b" / "sweep.yaml", (0, 0))
    assert list_runs(str(tmp_path)) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert newest_run(str(tmp_path)) == str(tmp_path / "a")
    with pytest.raises(StoreError, match="There is no run"):
        newest_run(str(tmp_path / "nothing"))
    with pytest.raises(StoreError, match="is not a run folder"):
        read_run(str(tmp_path))


def test_reading_imports_no_torch_no_mlflow_and_no_pandas():
    code = (
        "import sys; from promptlab.store import read_run; "
        "print([m for m in ('torch', 'mlflow', 'pandas') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_odd_prompts_are_stored_and_read_back(paths):
    subjects = (
        "a/b",
        "..",
        "<script>",
        "line\nbreak",
        "nul\0",
        "\u202eright",
        "🦊",
        "",
        "x" * 5000,
    )
    plan = make_plan(subjects=subjects)
    rows = check_whole_prompts(paths, plan)
    assert {row["subject"] for row in rows} == set(subjects)
    assert all(os.path.dirname(row["path"]) == "images" for row in rows)


def check_whole_prompts(paths, plan):
    draw_plan(paths, plan)
    return check_whole(paths.root, plan)


def test_an_error_that_quotes_a_file_name_which_is_not_utf_8_is_stored_with_escapes(paths):
    model = Painter(lambda request: Result(request, error="no such file: caf\udce9"))
    draw_plan(paths, make_plan(model=model))
    assert {row["error"] for row in read_run(paths).rows()} == {"no such file: caf\\udce9"}


@pytest.mark.parametrize("num_deleted", [0, 1, 3])
def test_compaction_that_dies_between_its_steps_neither_doubles_nor_loses_a_row(paths, num_deleted):
    plan = make_plan(seeds=range(10))
    draw_and_stop(paths, plan, part_rows=5)
    expected = essence(read_run(paths).rows())
    reader = read_run(paths)  # looked before, reads after

    class KilledError(Exception):
        pass

    class Dying(LocalStorage):
        def delete_files(self, files):
            super().delete_files(list(files)[:num_deleted])
            raise KilledError

    folder = RunFolder(LocalStorage(), paths)
    with pytest.raises(KilledError):
        compact(Dying(), paths, folder.parts, folder.axes, {}, len(folder.parts))
    assert essence(read_run(paths).rows()) == expected
    assert essence(reader.rows()) == expected
    draw_plan(paths, plan)  # the next writer tidies up
    assert len([n for n in os.listdir(paths.images_parquet) if n.startswith("part-")]) == 1
    assert essence(check_whole(paths.root, plan)) == expected


def test_a_reader_outlasts_a_writer_that_takes_a_part_away_at_every_look(paths):
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=5)
    expected = essence(read_run(paths).rows())
    folder = RunFolder(LocalStorage(), paths)
    merged = [part.path for part in folder.parts]
    assert len(merged) == 8

    class Keeping(LocalStorage):
        def delete_files(self, files):
            pass

    class Vanishing(LocalStorage):
        def list_sizes(self, folder):
            sizes = super().list_sizes(folder)
            if merged:
                self.delete_files([merged.pop()])  # listed, and gone before it is opened
            return sizes

    compact(Keeping(), paths, folder.parts, folder.axes, {}, len(merged))
    (part,) = list_parts(Vanishing(), paths.images_parquet).parts
    assert not merged
    assert part.num_rows == len(expected)
    assert essence(read_run(paths).rows()) == expected


def test_a_reader_sees_every_row_once_while_parts_are_merged_under_it(paths):
    plan = make_plan(seeds=range(50))
    draw_and_stop(paths, plan, part_rows=5)
    expected = essence(read_run(paths).rows())
    stop, seen = threading.Event(), []

    def read_on():
        while not stop.is_set():
            seen.append(essence(read_run(paths).rows()) == expected)

    thread = threading.Thread(target=read_on)
    thread.start()
    for _ in range(5):
        RunFolder(LocalStorage(), paths).compact()
    stop.set()
    thread.join()
    assert seen
    assert all(seen)


def test_a_damaged_sweep_yaml_is_one_clear_error(paths):
    draw_plan(paths, make_plan())
    with open(paths.sweep_yaml, "w") as file:
        file.write("sweep: [half a fi")
    with pytest.raises(StoreError, match=r"sweep\.yaml is damaged.*restore"):
        _ = read_run(paths).record
    with pytest.raises(StoreError, match=r"sweep\.yaml is damaged"):
        draw_plan(paths, make_plan())
    assert read_run(paths).num_rows == 8


def test_a_shortened_id_names_the_newest_of_several_runs_that_hold_the_image(tmp_path):
    runs = [RunPaths(str(tmp_path / "runs" / name)) for name in ("b", "c", "a")]
    for age_s, paths in zip((300, 200, 100), runs, strict=True):
        draw_plan(paths, make_plan())
        moment = time.time() - age_s
        os.utime(paths.sweep_yaml, (moment, moment))
    image_id = read_run(runs[0]).rows()[0]["image_id"]
    for length in (16, 15):
        run, row = find_image(image_id[:length], str(tmp_path / "runs"))
        assert (run.paths, row["image_id"]) == (runs[-1], image_id)


class Flickering(LocalStorage):
    """A folder whose first listing is made in the middle of a merge."""

    def __init__(self, seen_first):
        self.seen_first = seen_first

    def list_sizes(self, folder):
        sizes = super().list_sizes(folder)
        first, self.seen_first = self.seen_first, None
        return sizes if first is None else {name: sizes[name] for name in first}


def test_parts_that_change_between_listing_and_reading_are_listed_again(paths):
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=10)
    found = list_parts(Flickering(["part-000001.parquet"]), paths.images_parquet)
    assert sum(part.num_rows for part in found.parts) == 40


def test_a_run_without_images_is_not_the_newest_run(tmp_path):
    runs_dir = str(tmp_path / "runs")
    with pytest.raises(StoreError, match="no run with images"):
        newest_run(runs_dir)
    drawn_run = RunPaths(f"{runs_dir}/one")
    draw_plan(drawn_run, make_plan())
    with open_store(RunPaths(f"{runs_dir}/two"), make_plan(subjects=("a fish",))):
        pass
    assert len(list_runs(runs_dir)) == 2
    assert newest_run(runs_dir) == drawn_run.root


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_an_axis_of_numbers_beyond_64_bits_is_text(paths, number):
    draw_plan(paths, make_plan(axes={"huge": [1, number]}))
    run = read_run(paths)
    assert [axis.kind for axis in run.axes] == ["str"]
    assert {row["huge"] for row in run.rows()} == {"1", str(number)}


def test_two_axes_that_differ_in_case_alone_have_columns_that_differ(paths):
    draw_plan(paths, make_plan(axes={"light": [1, 2]}))
    draw_plan(paths, make_plan(axes={"light": [1, 2], "LIGHT": ["a", "b"], "Image": [1, 2]}))
    columns = {axis.name: axis.column for axis in read_run(paths).axes}
    assert columns == {"light": "light", "LIGHT": "axis_LIGHT", "Image": "axis_Image"}


def test_images_whose_bytes_are_not_in_parquet_are_read_from_their_files(paths):
    draw_plan(paths, make_plan(), embed_images=False)
    images = dict(read_run(paths).iter_images())
    assert len(images) == 8
    for image_id, png in images.items():
        assert (pixels_of(png) == paint(image_id)).all()
    (some,) = read_run(paths).iter_images({next(iter(images))})
    assert some == next(iter(images.items()))


def test_an_image_whose_file_is_gone_is_left_out_with_a_warning(paths, caplog):
    draw_plan(paths, make_plan(), embed_images=False)
    run = read_run(paths)
    gone, *others = sorted(run.rows(), key=lambda row: row["image_id"])
    os.unlink(paths.join(gone["path"]))
    images = dict(run.iter_images())
    assert sorted(images) == [row["image_id"] for row in others]
    assert f"the PNG of {gone['image_id']} is gone" in caplog.text
    assert run.image_bytes(gone["image_id"]) is None


def test_images_are_read_while_parts_are_merged_under_the_reader(paths):
    draw_and_stop(paths, make_plan(seeds=range(10)), part_rows=5)
    run = read_run(paths)
    expected = {row["image_id"]: run.image_bytes(row["image_id"]) for row in run.rows()}
    images = run.iter_images()
    found = dict([next(images)])
    RunFolder(LocalStorage(), paths).compact()
    for row in run.rows():
        os.unlink(paths.join(row["path"]))
    found.update(images)
    assert found == expected


def test_images_of_a_part_that_stays_away_are_an_error_and_not_left_out(paths, monkeypatch):
    draw_and_stop(paths, make_plan(seeds=range(3)))
    run = read_run(paths)
    files = [paths.join(row["path"]) for row in run.rows()]
    assert len(dict(run.iter_images())) == len(files)
    monkeypatch.setattr(run, "refresh", lambda: None)  # the part is listed still
    for path in [*files, *(part.path for part in run._parts.parts)]:
        os.unlink(path)
    with pytest.raises(FileNotFoundError):
        list(run.iter_images())


def test_parts_stand_in_the_order_of_writing_however_the_disk_lists_them(paths):
    class Reversed(LocalStorage):
        def list_sizes(self, folder):
            return dict(sorted(super().list_sizes(folder).items(), reverse=True))

    draw_and_stop(paths, make_plan(), part_rows=2)
    found = list_parts(Reversed(), paths.images_parquet)
    assert [part.number for part in found.parts] == [0, 1, 2, 3]


def test_news_of_a_run_are_the_rows_of_new_parts_in_order_of_drawing(paths):
    draw_and_stop(paths, make_plan(), num_images=3)
    run = read_run(paths)
    assert run.read_news(["seed"]) == []
    draw_and_stop(paths, make_plan(), part_rows=2)
    news = run.read_news(["image_id", "seed"])
    assert news == run.rows(["image_id", "seed"])[3:]
    assert len(news) == 5
    assert run.read_news(["seed"]) == []
