import datetime
import json
import multiprocessing
import time

import pyarrow.parquet as pq
import pytest

from promptlab.errors import ReportError
from promptlab.store import read_run
from promptlab.verdicts import picks
from promptlab.verdicts.picked import picked_images
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
    path = tmp_path / "picks.parquet"
    table = pq.read_table(path)
    assert table["rating"].to_pylist() == [2, 5], "others read it in the order of time, too"
    pq.write_table(table.take([1, 0]), path)
    assert picks.read_picks(tmp_path) == [old, new]


def test_times_of_other_zones_are_compared_as_moments():
    early = Pick(A, rating=1, picked_at="2026-11-02T01:00:00+02:00")
    late = Pick(A, rating=2, picked_at="2026-11-01T23:30:00Z")
    assert picks.current([late, early]) == {A: late}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_times_are_kept_as_utc_and_one_without_a_zone_is_utc_wherever_one_is(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for text in ("2026-11-01T10:00", "2026-11-01T10:00:00Z", "2026-11-01T19:00:00.000+09:00"):
            assert Pick(A, rating=1, picked_at=text).picked_at == "2026-11-01T10:00:00.000+00:00"
        now = datetime.datetime.now(datetime.UTC)
        given = datetime.datetime.fromisoformat(Pick(A).picked_at)
        assert abs(given - now) < datetime.timedelta(minutes=1)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_images_and_people_stand_in_the_order_in_which_they_were_judged_last():
    history = [
        Pick(image_id, rating=rating, who=who, picked_at=at(hour))
        for hour, (image_id, who, rating) in enumerate(
            [(A, "ann", 1), (B, "ann", 2), (A, "bob", 3), (B, "bob", 4), (A, "ann", 5)]
        )
    ]
    for given in (history, history[::-1]):
        newest = picks.newest_by_person(given)
        assert [(image_id, [p.who for p in said]) for image_id, said in newest.items()] == [
            (B, ["ann", "bob"]),
            (A, ["bob", "ann"]),
        ]


def at(hour):
    return f"2026-11-01T{hour:02}:00:00Z"


def test_two_peoples_verdicts_on_one_image_both_count(tmp_path):
    ann = Pick(A, rating=5, who="ann", note="gold", picked_at=at(10))
    bob = Pick(A, is_reject=True, who="bob", picked_at=at(11))
    picks.record_picks(tmp_path, [ann, bob])
    assert picks.newest_by_person([bob, ann]) == {A: [ann, bob]}
    both = picks.current_picks(tmp_path)[A]
    assert (both.rating, both.is_reject, both.who) == (5, False, "ann, bob")
    assert both.note == "ann: gold"
    assert both.is_pick()


def test_a_persons_later_verdict_replaces_only_that_persons(tmp_path):
    ann = [Pick(A, rating=5, who="ann", picked_at=at(10)), Pick(A, who="ann", picked_at=at(12))]
    bob = Pick(A, rating=2, who="bob", picked_at=at(11))
    assert picks.current([*ann, bob]) == {A: bob}


@pytest.mark.parametrize(
    ("said", "combined"),
    [
        ([5, 2], (4, False, False)),  # 3.5 rounds up
        ([2, 3], (3, False, False)),  # and so does 2.5: no rounding to even
        ([1, 2, 2], (2, False, False)),
        (["f", 1], (1, True, False)),
        (["x", "x", 5], (5, False, True)),
        (["x", "f", "x"], (None, False, True)),
        (["x", "f"], (None, True, False)),
        (["x", "n"], (None, False, True)),  # a note is no vote
        ([1, "x5", 2], (2, False, False)),  # nor are the stars of a reject
        (["x5", "x1", 3], (3, False, True)),
        (["x5", "x1"], (None, False, True)),
        (["xf", "f", 2], (2, True, False)),
    ],
)
def test_verdicts_of_several_people_are_combined_by_one_rule(said, combined):
    verdicts = [
        Pick(
            A,
            rating=next((int(each) for each in str(word) if each.isdigit()), None),
            is_favourite="f" in str(word),
            is_reject="x" in str(word),
            note="hm" if word == "n" else "",
            who=f"person {number}",
            picked_at=at(number),
        )
        for number, word in enumerate(said)
    ]
    both = picks.combine(verdicts)
    assert (both.rating, both.is_favourite, both.is_reject) == combined
    assert both.picked_at == verdicts[-1].picked_at


def test_one_threshold_makes_picks_everywhere(monkeypatch):
    assert [rating for rating in (1, 2, 3, 4, 5) if Pick(A, rating=rating).is_pick()] == [3, 4, 5]
    assert Pick(A, is_favourite=True).is_pick()
    assert not Pick(A, rating=5, is_reject=True).is_pick()
    assert not Pick(A, note="hm").is_pick()
    monkeypatch.setenv("PROMPTLAB_PICK_RATING", "5")
    assert not Pick(A, rating=4).is_pick()
    monkeypatch.setenv("PROMPTLAB_PICK_RATING", "many")
    with pytest.raises(ReportError, match="whole number from 1 to 5"):
        picks.pick_rating()


def test_recording_the_same_verdicts_twice_changes_nothing(tmp_path):
    given = [Pick(A, rating=3), Pick(B, is_reject=True)]
    assert picks.record_picks(tmp_path, [*given, given[0]]) == 2
    assert len(picks.read_picks(tmp_path)) == 2
    content = (tmp_path / "picks.parquet").read_bytes()
    assert picks.record_picks(tmp_path, given) == 0
    assert (tmp_path / "picks.parquet").read_bytes() == content


def test_a_cleared_verdict_takes_the_earlier_ones_back(tmp_path):
    picks.record_picks(tmp_path, [Pick(A, rating=3, picked_at="2026-11-01T10:00:00Z")])
    picks.record_picks(tmp_path, [Pick(A, picked_at="2026-11-01T11:00:00Z")])
    assert picks.current_picks(tmp_path) == {}


def test_many_long_notes_on_one_image_make_a_note_that_can_be_kept():
    long = "n" * picks.MAX_NOTE_LENGTH
    both = picks.combine([Pick(A, note=long, who="ann"), Pick(A, note=long, who="bob")])
    assert both.note.startswith("ann: nnn")
    assert len(both.note) == picks.MAX_NOTE_LENGTH


def test_verdicts_are_signed_as_the_environment_says_else_with_the_login_name(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.delenv("PROMPTLAB_WHO", raising=False)
    assert picks.default_who() == "ann"
    monkeypatch.setenv("PROMPTLAB_WHO", "")
    assert picks.default_who() == "ann"
    monkeypatch.setenv("PROMPTLAB_WHO", "the jury")
    assert picks.default_who() == "the jury"


@pytest.mark.parametrize(
    ("fields", "verdict", "is_cleared"),
    [
        ({"is_favourite": True, "rating": 2, "note": "hm"}, "favourite", False),
        ({"is_reject": True, "rating": 5, "note": "hm"}, "reject", False),
        ({"rating": 4, "note": "hm"}, "4", False),
        ({"note": "hm"}, "note", False),
        ({"who": "ann"}, "cleared", True),
    ],
)
def test_a_verdict_in_one_word_is_the_strongest_thing_that_was_said(fields, verdict, is_cleared):
    assert (Pick(A, **fields).verdict, Pick(A, **fields).is_cleared) == (verdict, is_cleared)


def test_an_entry_is_read_as_it_was_exported_and_nothing_is_made_up():
    entry = {"image_id": A, "picked_at": at(9), "is_favourite": 1, "is_reject": "no"}
    document = {"format": picks.EXPORT_FORMAT, "picks": [{**entry, "note": None, "who": None}]}
    (pick,) = picks.picks_from_json(json.dumps(document), who="ann")
    assert pick == Pick(A, who="ann", picked_at=at(9))
    del document["picks"][0]["picked_at"]
    with pytest.raises(ReportError, match="Entry 1"):
        picks.picks_from_json(json.dumps(document))


def test_times_are_kept_to_the_millisecond(tmp_path):
    moments = [f"2026-11-01T10:00:00.{n:03}+00:00" for n in (1, 2, 999)]
    given = [Pick(A, rating=n + 1, picked_at=each) for n, each in enumerate(moments)]
    picks.record_picks(tmp_path, given)
    assert [pick.picked_at for pick in picks.read_picks(tmp_path)] == moments
    assert picks.current_picks(tmp_path)[A].rating == 3


def test_a_folder_that_is_not_there_is_not_made_for_picks(tmp_path):
    with pytest.raises(ReportError, match="no run folder"):
        picks.record_picks(tmp_path / "gone", [Pick(A, rating=3)])
    assert not (tmp_path / "gone").exists()


def test_files_of_picks_that_cannot_be_read_are_one_message(tmp_path):
    (tmp_path / "picks.parquet").write_bytes(b"no parquet")
    for use in (picks.read_picks, lambda run: picks.record_picks(run, [Pick(A, rating=3)])):
        with pytest.raises(ReportError, match=r"picks\.parquet cannot be read"):
            use(tmp_path)
    assert (tmp_path / "picks.parquet").read_bytes() == b"no parquet"


@pytest.mark.parametrize(
    "fields",
    [
        {"image_id": "../../etc"},
        {"image_id": A.upper()},
        {"image_id": A, "rating": 6},
        {"image_id": A, "rating": 0},
        {"image_id": A, "rating": True},
        {"image_id": A, "rating": 3.0},
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


def test_a_byte_order_mark_before_the_picks_is_ignored():
    given = [Pick(A, rating=5)]
    assert picks.picks_from_json("\ufeff" + picks.picks_to_json(given)) == given


def test_a_note_cut_inside_of_an_emoji_is_kept(tmp_path):
    text = picks.picks_to_json([Pick(A, note="gold!")]).replace("gold!", "gold \\ud83d")
    picks.record_picks(tmp_path, picks.picks_from_json(text))
    assert picks.current_picks(tmp_path)[A].note == "gold \\ud83d"


def test_an_import_keeps_the_name_each_verdict_carries():
    given = [Pick(A, rating=5, who="ann"), Pick(B, rating=4)]
    taken = picks.picks_from_json(picks.picks_to_json(given), who="bob")
    assert [pick.who for pick in taken] == ["ann", "bob"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "promptlab-picks", "picks": 3}', '{"picks": []}']
)
def test_another_file_is_refused_as_picks(text):
    with pytest.raises(ReportError, match=r"no picks\.json"):
        picks.picks_from_json(text)


@pytest.mark.parametrize("rating", ["five", True, 3.5, [1]])
def test_a_broken_entry_is_named_by_its_number(rating):
    document = json.loads(picks.picks_to_json([Pick(A, rating=5), Pick(B, rating=1)]))
    document["picks"][1]["rating"] = rating
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
    (picked,) = picked_images(root)
    assert (picked.image_id, picked.subject, picked.style, picked.seed, picked.prompt) == (
        row["image_id"],
        row["subject"],
        row["style"],
        row["seed"],
        row["prompt"],
    )
    assert picked.axes == {"top_k": 16, "action": "asleep"}
    assert picked.params["top_k"] == 16


def test_picked_images_come_as_they_were_judged_and_those_that_are_gone_are_left_out(tmp_path):
    root = make_run(
        tmp_path / "run", subjects=["a fox", "a yak"], styles=["noto"], prompt="{style}"
    )
    rows = read_run(root).rows()
    first = rows[0]["image_id"]
    last = next(row["image_id"] for row in rows if row["image_id"] != first)
    given = [(last, 9), ("0" * 16, 10), (first, 11)]
    picks.record_picks(root, [Pick(i, rating=5, picked_at=at(hour)) for i, hour in given])
    found = picked_images(root)
    assert [picked.image_id for picked in found] == [last, first]
    assert len({row["cell_id"] for row in rows if row["image_id"] == first}) == 2
    assert found[1].cell_id == rows[0]["cell_id"], "of two cells with one image the first"


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
    assert [picked.image_id for picked in picked_images(root)] == [ids[2]]
    assert len(picked_images(root, min_rating=2)) == 2


def test_a_run_without_picks_says_how_to_pick(tmp_path):
    root = make_run(tmp_path / "run")
    with pytest.raises(ReportError, match="promptlab pick"):
        picked_images(root)
