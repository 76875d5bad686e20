"""Verdicts and the state of the page, in node: cases that a change may break without a sign."""

from __future__ import annotations

from typing import Any

from tests.report.scripts import document_of, run_script
from tests.report.test_scripts import PICKS_PROGRAM, A, B

OF_BOB = {
    "image_id": A,
    "rating": 5,
    "is_favourite": False,
    "is_reject": False,
    "note": "bob's",
    "who": "bob",
    "picked_at": "2026-10-01T09:00:00.000Z",
}


def verdict(found: Any) -> tuple[Any, ...]:
    return found["rating"], found["is_favourite"], found["is_reject"], found["note"]


def test_a_rated_or_favourite_image_is_no_reject_any_more(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    picks.reject(ids);
    picks.rate([ids[0]], 4);
    picks.favour([ids[1]]);
    give(ids.map((id) => picks.of(id)));
    """
    )
    rated, favourite = run_script(tmp_path, program, ids=[A, B])
    assert verdict(rated) == (4, False, False, "")
    assert verdict(favourite) == (None, True, False, "")


def test_ones_own_verdict_does_not_begin_with_what_others_said(tmp_path):
    program = (
        PICKS_PROGRAM.replace("said: {}", "said: { [given.bob.image_id]: [given.bob] }")
        + """
    picks.favour([ids[0]]);
    give(picks.of(ids[0]));
    """
    )
    found = run_script(tmp_path, program, ids=[A, B], baked=[OF_BOB], bob=OF_BOB)
    assert verdict(found) == (None, True, False, "")


def test_a_size_of_the_url_is_kept_within_what_the_page_can_show(tmp_path, foxes):
    program = """
    import { makeSheet } from "./data.js";
    import { readHash } from "./state.js";
    const sheet = makeSheet(given.document);
    give(["3", "200", "9999", "x"].map((size) => readHash(sheet, `#size=${size}`).size));
    """
    found = run_script(tmp_path, program, document=document_of(foxes))
    assert found == [40, 200, 640, 0]


def test_tabs_begin_at_the_models_default_and_else_at_the_first_value(tmp_path):
    program = """
    import { tabCode } from "./filters.js";
    const axis = { order: [2, 0, 1], default: given.default };
    const sheet = { axisByName: new Map([["steps", axis]]) };
    give([tabCode(sheet, { tab: {} }, "steps"), tabCode(sheet, { tab: { steps: 0 } }, "steps")]);
    """
    assert run_script(tmp_path, program, default=1) == [1, 0]
    assert run_script(tmp_path, program, default=-1) == [2, 0]
