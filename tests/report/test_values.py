"""What the page is handed: values as people read them, verdicts old and new, packs of images."""

from __future__ import annotations

import pytest

from promptlab.report.axes import axis_text, make_axis
from promptlab.report.chunks import SheetFeed, ThumbnailShape, whole_chunk
from promptlab.report.data import collect
from promptlab.store import read_run
from promptlab.verdicts.scores import Scorer, record_scores
from tests.report.runs import make_run
from tests.report.scripts import document_of, run_script
from tests.report.test_scripts import PICKS_PROGRAM, PLANNED, A, B


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "default"), (True, "true"), (False, "false"), (3, "3"), (0.5, "0.5")),
        *((2.0, "2"), (1234567.5, "1234567.5"), ("None", "None")),
    ],
)
def test_a_value_of_an_axis_is_written_as_people_read_it(value, text):
    assert axis_text(value) == text


def test_values_that_differ_late_are_two_values():
    axis = make_axis("strength", [1234567.5, 1234568.5, 0.1 + 0.2, 0.3], ())
    assert len(axis.values) == 4


def test_the_page_tells_pixels_apart_by_half_of_their_hash(foxes):
    data = collect([read_run(foxes)])
    found = whole_chunk(data, {}, []).image.sha
    assert found == [sha and sha[:16] for sha in data.image_sha256]
    assert None not in found


def test_a_pack_of_later_images_begins_at_the_first_of_them():
    feed = SheetFeed(["subject"])
    drawn = [{**row, "status": "ok"} for row in PLANNED]
    shapes = {row["image_id"]: ThumbnailShape(0, 16, 16, is_native=True) for row in PLANNED}
    first = {i: shapes[i] for i in list(shapes)[:4]}
    last = {i: shapes[i] for i in list(shapes)[4:]}
    assert feed.add(drawn[:4], first).packs == [([0, 1, 2, 3], 4, "")]
    assert feed.add(drawn[4:], last).packs == [([4, 5], 2, "")]


def verdict(image_id: str, hour: int, **fields: object) -> dict[str, object]:
    base = {"rating": None, "is_favourite": False, "is_reject": False, "note": "", "who": ""}
    return {"image_id": image_id, "picked_at": f"2026-11-01T{hour:02}:00:00.000Z", **base, **fields}


def test_what_this_browser_kept_does_not_undo_newer_verdicts_of_the_run(tmp_path):
    baked = [verdict(A, 9, rating=5), verdict(B, 9, rating=5)]
    kept = [verdict(A, 8, rating=1), verdict(B, 10, rating=2)]
    program = PICKS_PROGRAM + "give(ids.map((id) => picks.of(id).rating));"
    assert run_script(tmp_path, program, ids=[A, B], baked=baked, kept=kept) == [5, 2]


def test_a_rating_takes_a_reject_back(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    picks.reject([ids[0]]);
    picks.rate([ids[0]], 4);
    give([picks.of(ids[0]).is_reject, picks.of(ids[0]).rating]);
    """
    )
    assert run_script(tmp_path, program, ids=[A, B]) == [False, 4]


def test_a_verdict_of_the_run_that_is_taken_back_here_is_handed_on_as_cleared(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    picks.clear([ids[0]]);
    give(JSON.parse(picks.exportText()).picks.map((pick) => [pick.image_id, pick.rating]));
    """
    )
    baked = [verdict(A, 9, rating=5)]
    assert run_script(tmp_path, program, ids=[A, B], baked=baked) == [[A, None]]


def test_a_verdict_does_not_begin_with_what_others_said(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    sheet.said[ids[0]] = given.said;
    picks.favour([ids[0]]);
    const { rating, is_favourite, note } = picks.of(ids[0]);
    give([rating, is_favourite, note]);
    """
    )
    said = [verdict(A, 9, rating=5, note="gold", who="ann")]
    found = run_script(tmp_path, program, ids=[A, B], baked=said, said=said)
    assert found == [None, True, ""]


def test_blind_candidates_stand_in_the_order_of_the_sweep(tmp_path):
    program = """
    import { orderStack } from "./layout.js";
    const image = { width: [9, 9, 9] };
    const zeros = [0, 0, 0];
    const sheet = { imageOf: [0, 1, 2], status: zeros, fromDefault: zeros, scores: [], image };
    const picks = { ofRow: (row) => (row === 2 ? { rating: 5 } : null) };
    const orders = [false, true].map((blind) => {
      const stack = [1, 0, 2];
      orderStack(sheet, picks, { blind, sortRows: "" }, stack);
      return stack;
    });
    give(orders);
    """
    assert run_script(tmp_path, program) == [[2, 0, 1], [0, 1, 2]]


def test_values_put_in_an_order_come_first_and_the_others_follow_as_they_were(tmp_path):
    program = """
    import { ranks } from "./layout.js";
    const axis = { values: ["a", "b", "c", "d"], order: [1, 0, 2, 3] };
    give([[...ranks(axis, [3, 2])], [...ranks(axis, null)]]);
    """
    assert run_script(tmp_path, program) == [[3, 2, 1, 0], [1, 0, 2, 3]]


def test_images_that_a_link_names_and_the_sheet_does_not_hold_are_not_chosen(tmp_path, foxes):
    program = """
    import { makeSheet } from "./data.js";
    import { readHash } from "./state.js";
    const sheet = makeSheet(given.document);
    const [known, gone] = [sheet.image.id[1], given.gone];
    const { chosen, at } = readHash(sheet, `#chosen=${gone},${known}&at=${gone}`);
    give([chosen, at, known]);
    """
    document = document_of(foxes)
    chosen, at, known = run_script(tmp_path, program, document=document, gone="0" * 16)
    assert (chosen, at) == ([known], "")


def test_a_value_that_says_nothing_by_itself_is_shown_with_its_axis(tmp_path):
    program = """
    import { valueText } from "./data.js";
    const axis = (name, isNumeric, ...values) => ({ name, isNumeric, values });
    give([valueText(axis("seed", true, "3"), 0), valueText(axis("light", false, "default"), 0),
      valueText(axis("light", false, "dusk"), 0)]);
    """
    assert run_script(tmp_path, program) == ["seed 3", "light default", "dusk"]


def test_lines_sorted_by_a_score_whose_low_values_are_good_begin_with_the_lowest(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a cat", "a fox", "an owl"], num_seeds=1)
    rows = read_run(root).rows(["image_id", "subject"])
    scored = {"a fox": 0.9, "an owl": -0.1}  # a cat has none and comes last
    values = {r["image_id"]: scored[r["subject"]] for r in rows if r["subject"] in scored}
    program = """
    import { makeSheet } from "./data.js";
    import { computeLayout, lineLabel } from "./layout.js";
    import { makePicks } from "./picks.js";
    import { defaultState } from "./state.js";
    const [sheet, by] = [makeSheet(given.document), given.by];
    const state = { ...defaultState(sheet), rows: ["subject"], cols: ["style"], sortRows: by };
    give(computeLayout(sheet, makePicks(sheet), state, 1000).rows.map(lineLabel));
    """
    for is_higher_better, order in ((False, ["an owl", "a fox"]), (True, ["a fox", "an owl"])):
        record_scores(root, Scorer("taste", is_higher_better=is_higher_better), values)
        for by in ("score:taste", "best:taste"):
            found = run_script(tmp_path, program, document=document_of(root), by=by)
            assert found == [[subject] for subject in (*order, "a cat")]
