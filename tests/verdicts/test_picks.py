import json
import multiprocessing

import pytest

from promptlab.errors import ReportError
from promptlab.store import read_run
from promptlab.verdicts import picks
from promptlab.verdicts.picks import Pick
from tests.report.runs import make_run

A, B = "0123456789abcdef", "fedcba9876543210"


def test_a_verdict_recorded_is_read_back_whole(tmp_path):
    pick = Pick(A, rating=4, is_favourite=True, note="</script> \u202e ü", who="ann")
    assert picks.record_picks(tmp_path, [pick]) == 1
    assert picks.read_picks(tmp_path) == [pick]


def test_the_newest_verdict_counts_and_the_history_stays(tmp_path):
    old = Pick(A, rating=2, picked_at="2026-11-01T10:00:00+00:00")
    new = Pick(A, rating=5, picked_at="2026-11-02T10:00:00+00:00")
    picks.record_picks(tmp_path, [new])
    picks.record_picks(tmp_path, [old])
    assert picks.current_picks(tmp_path) == {A: new}
    assert picks.read_picks(tmp_path) == [old, new]


def test_times_of_other_zones_are_compared_as_moments():
    early = Pick(A, rating=1, picked_at="2026-11-02T01:00:00+02:00")
    late = Pick(A, rating=2, picked_at="2026-11-01T23:30:00Z")
    assert picks.newest([late, early]) == {A: late}


def test_recording_the_same_verdicts_twice_changes_nothing(tmp_path):
    given = [Pick(A, rating=3), Pick(B, is_reject=True)]
    assert picks.record_picks(tmp_path, given) == 2
    content = (tmp_path / "picks.parquet").read_bytes()
    assert picks.record_picks(tmp_path, given) == 0
    assert (tmp_path / "picks.parquet").read_bytes() == content


def test_a_cleared_verdict_takes_the_earlier_ones_back(tmp_path):
    picks.record_picks(tmp_path, [Pick(A, rating=3, picked_at="2026-11-01T10:00:00Z")])
    picks.record_picks(tmp_path, [Pick(A, picked_at="2026-11-01T11:00:00Z")])
    assert picks.current_picks(tmp_path) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"image_id": "../../etc"},
        {"image_id": A.upper()},
        {"image_id": A, "rating": 6},
        {"image_id": A, "rating": 0},
        {"image_id": A, "picked_at": "yesterday"},
        {"image_id": A, "note": "n" * 20_001},
    ],
)
def test_what_is_no_verdict_is_refused(fields):
    with pytest.raises(ReportError):
        Pick(**fields)


def test_the_export_of_a_page_comes_back_as_it_was():
    given = [Pick(A, rating=5, note="a\nb", who="ann"), Pick(B, is_reject=True, who="bob")]
    assert picks.picks_from_json(picks.picks_to_json(given)) == given


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "promptlab-picks", "picks": 3}', '{"picks": []}']
)
def test_another_file_is_refused_as_picks(text):
    with pytest.raises(ReportError, match=r"no picks\.json"):
        picks.picks_from_json(text)


def test_a_broken_entry_is_named_by_its_number():
    document = json.loads(picks.picks_to_json([Pick(A, rating=5), Pick(B, rating=1)]))
    document["picks"][1]["rating"] = "five"
    with pytest.raises(ReportError, match="Entry 2"):
        picks.picks_from_json(json.dumps(document))


def test_picks_are_a_table_of_who_when_and_verdict_that_others_can_read(tmp_path):
    import duckdb

    picks.record_picks(tmp_path, [Pick(A, is_favourite=True, who="ann"), Pick(B, rating=2)])
    columns = "image_id, who, verdict, typeof(picked_at)"
    found = duckdb.sql(f"select {columns} from '{tmp_path}/picks.parquet' order by 1").fetchall()
    assert [row[:3] for row in found] == [(A, "ann", "favourite"), (B, "", "2")]
    assert found[0][3].startswith("TIMESTAMP")


def _record_many(folder, start):
    for number in range(start, start + 10):
        picks.record_picks(folder, [Pick(f"{number:016x}", rating=3)])


def test_two_people_recording_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    people = [context.Process(target=_record_many, args=(str(tmp_path), n)) for n in (0, 100)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len(picks.current_picks(tmp_path)) == 20


def test_picked_images_carry_what_a_new_sweep_needs(tmp_path):
    root = make_run(tmp_path / "run", axes={"top_k": [8, 16], "action": ["asleep"]})
    row = next(r for r in read_run(root).rows() if r["top_k"] == 16)
    other = next(r for r in read_run(root).rows() if r["top_k"] == 8)
    picks.record_picks(root, [Pick(row["image_id"], rating=4), Pick(other["image_id"], rating=1)])
    (picked,) = picks.picked_images(root)
    assert (picked.image_id, picked.subject, picked.style, picked.seed, picked.prompt) == (
        row["image_id"],
        row["subject"],
        row["style"],
        row["seed"],
        row["prompt"],
    )
    assert picked.axes == {"top_k": 16, "action": "asleep"}
    assert picked.params["top_k"] == 16


def test_rejects_and_poor_ratings_are_not_drawn_again(tmp_path):
    root = make_run(tmp_path / "run")
    ids = [row["image_id"] for row in read_run(root).rows(["image_id"])]
    picks.record_picks(
        root,
        [
            Pick(ids[0], rating=5, is_reject=True),
            Pick(ids[1], rating=2),
            Pick(ids[2], rating=2, is_favourite=True),
            Pick(ids[3], note="hm"),
        ],
    )
    assert [picked.image_id for picked in picks.picked_images(root)] == [ids[2]]
    assert len(picks.picked_images(root, min_rating=2)) == 2


def test_a_run_without_picks_says_how_to_pick(tmp_path):
    root = make_run(tmp_path / "run")
    with pytest.raises(ReportError, match="promptlab pick"):
        picks.picked_images(root)
