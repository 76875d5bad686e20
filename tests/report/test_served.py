"""A served sheet: what is drawn meanwhile is told once, and only the run's own images leave it."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptlab.paths import RunPaths
from promptlab.report.served import ServedSheet, pick_document
from promptlab.store import read_run
from promptlab.verdicts.picks import Pick
from tests.report.runs import make_run

SECRET = b"the owner's secret"


@pytest.mark.parametrize(
    "path",
    ["images/../../secret.png", "images/x/../../../secret.png", "../secret.png", "images/..", "/s"],
)
def test_a_path_that_leads_out_of_the_run_folder_is_not_followed(tmp_path, path):
    (tmp_path / "secret.png").write_bytes(SECRET)
    root = make_run(tmp_path / "foxes", subjects=["a fox"], styles=["noto"], embed_images=False)
    part = RunPaths(root).part(0)
    table = pq.read_table(part)
    images = table["image"].to_pylist()
    whole, images[0]["path"] = images[1]["path"], path
    field = table.schema.field("image")
    forged = table.drop_columns("image").append_column(field, pa.array(images, field.type))
    pq.write_table(forged, part)
    sheet = ServedSheet(root)
    first, second = table["image_id"].to_pylist()
    assert sheet.png(first) is None
    assert sheet.png(second) == (tmp_path / "foxes" / whole).read_bytes()


def ids_and_states(chunks):
    """Return each row's number, image and status in the order in which a page gets them."""
    found = []
    for _, chunk in chunks:
        image_id = dict(zip(chunk.image.at, chunk.image.id, strict=True))
        rows = zip(chunk.row.at, chunk.row.image, chunk.row.status, strict=True)
        found += [(row, image_id[image], status) for row, image, status in rows]
    return found


def test_planned_images_stand_in_the_page_once_until_they_are_drawn(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"])
    first, second = read_run(root).rows()
    planned = {**second, "seed": 2, "image_id": "9" * 16, "dtype": None}
    sheet = ServedSheet(root, [{**first, "status": "pending"}, planned])
    assert (sheet.num_images, sheet.num_drawn) == (3, 2)
    assert sheet.seeds_of(first["cell_id"]) == [0, 1, 2]
    assert set(sheet.image_ids) == {first["image_id"], second["image_id"], "9" * 16}
    assert sheet.data.status.tolist() == [0, 0, 3]
    assert sheet.newest(5) == [second["image_id"], first["image_id"]]
    assert sheet.png("9" * 16) is sheet.thumbnail("9" * 16) is None
    pack = json.loads(sheet.pack([second["image_id"], "8" * 16, "9" * 16, first["image_id"]]))
    assert [bool(webp) for webp in pack["t"]] == [True, False, False, True]
    assert [bool(command) for command in pack["c"]] == [True, False, False, True]
    assert pack["t"][0] != pack["t"][3]
    assert pack["c"][0] != pack["c"][3]


def test_what_is_drawn_meanwhile_is_told_once_and_takes_the_number_of_its_row(tmp_path):
    cells = {"subjects": ["a fox"], "styles": ["noto", "x"]}
    plan = read_run(make_run(tmp_path / "plan", num_seeds=3, **cells)).rows()
    planned = [{**row, "dtype": None} for row in plan if row["seed"] == 2]
    root = make_run(tmp_path / "run", **cells)
    sheet = ServedSheet(root, planned)
    assert not sheet.read_news()
    assert (sheet.num_images, sheet.num_drawn) == (6, 4)
    data = sheet.data
    pending = [row for row in range(6) if data.status[row] == 3]
    numbers = {data.image_ids[data.image_of_row[row]]: row for row in pending}
    assert numbers.keys() == {row["image_id"] for row in planned}
    make_run(tmp_path / "run", num_seeds=3, **cells)
    assert sheet.read_news()
    assert not sheet.read_news()
    told = ids_and_states(sheet.chunks_after(0))
    assert {image_id: row for row, image_id, _ in told} == numbers
    assert [status for _, _, status in told] == [0, 0]
    assert (sheet.num_drawn, sheet.num_images, sheet.num_added) == (6, 6, 2)
    assert (len(sheet.chunks_after(1)), sheet.chunks_after(2)) == (1, [])
    assert set(sheet.newest(2)) == numbers.keys()
    document = json.loads(sheet.document([], {}))
    row = document["chunk"]["row"]
    state = dict(zip(row["at"], row["status"], strict=True))
    assert state == dict.fromkeys(range(6), 0)
    assert document["served"]["events"].endswith("&from=2")


def test_a_page_is_told_what_people_still_say_and_who_took_something_back():
    ann = Pick("a" * 16, rating=4, who="ann", picked_at="2026-11-01T10:00:00Z")
    back = Pick("a" * 16, who="bob", picked_at="2026-11-01T11:00:00Z")
    told = pick_document([ann, back])
    assert (told["image_id"], told["pick"]["rating"], told["pick"]["who"]) == ("a" * 16, 4, "ann")
    assert [each["who"] for each in told["said"]] == ["ann", "bob"]
    assert pick_document([back])["pick"] is None


def test_a_thumbnail_of_other_pixels_is_not_shown_for_an_image(tmp_path):
    old = make_run(tmp_path / "old", subjects=["a fox"], styles=["noto"], num_seeds=1)
    new = make_run(tmp_path / "new", subjects=["a fox"], styles=["noto"], num_seeds=1, grain=20.0)
    (image_id,) = (row["image_id"] for row in read_run(old).rows(["image_id"]))
    stale = ServedSheet(old).thumbnail(image_id)
    shutil.copytree(tmp_path / "old" / ".thumbnails", tmp_path / "new" / ".thumbnails")
    fresh = ServedSheet(new).thumbnail(image_id)
    assert fresh != stale
    assert ServedSheet(new).thumbnail(image_id) == fresh, "kept beside the other one"
