"""Verdicts and the state of the page, in node: cases that a change may break without a sign."""

from __future__ import annotations

import json
import random
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


def test_undoing_all_brings_back_what_was_and_a_saved_file_tells_it_all_elsewhere(tmp_path):
    """Two people do at random what a page offers, on images that one of them judged before."""
    chance = random.Random(11)
    ids = [f"{number:016x}" for number in range(4)]
    acts: list[list[Any]] = []
    for _ in range(150):
        how = chance.choice(["rate", "favour", "reject", "clear", "annotate"])
        chosen = chance.sample(ids, chance.randint(1, 3))
        rest = {"rate": [chance.randint(1, 5)], "annotate": [chance.choice(["", "gold"])]}
        who = chance.choice(["ann", "bob"])
        target = chosen[0] if how == "annotate" else chosen
        acts.append([who, how, target, *rest.get(how, [])])
    held = [{**OF_BOB, "image_id": image_id} for image_id in ids[:2]]
    program = """
    import { makePicks } from "./picks.js";
    const sheetOf = () => ({
      picks: given.held, said: {}, picks_format: "promptlab-picks", title: "t", pick_rating: 3,
      runs: [], imageById: new Map(given.ids.map((id, i) => [id, i])),
    });
    let minute = 0;
    let name = "";
    const now = () => new Date(Date.UTC(2026, 10, 1, 10, minute++)).toISOString();
    const who = () => name;
    const picks = makePicks(sheetOf(), { who, now });
    const said = (of) => given.ids.map((id) => of.saidOf(id).map(JSON.stringify).sort());
    const mine = (of) => ["ann", "bob", ""].map((each) => {
      name = each;
      return given.ids.map((id) => of.of(id));
    });
    const states = [[said(picks), mine(picks)]];
    for (const [person, how, ...rest] of given.acts) {
      name = person;
      picks[how](...rest);
      states.push([said(picks), mine(picks)]);
    }
    const elsewhere = makePicks(sheetOf(), { who, now });
    elsewhere.importText(picks.exportText());
    const told = said(elsewhere);
    const kept = makePicks(sheetOf(), { who, now, kept: JSON.parse(picks.exportText()).picks });
    const again = elsewhere.importText(picks.exportText());
    const end = states.length - 1;
    const differing = [];
    for (let at = end - 1; at >= 0; at -= 1) {
      name = at % 2 ? "ann" : "bob"; // whoever undoes it
      picks.undo();
      const now = JSON.stringify([said(picks), mine(picks)]);
      if (now !== JSON.stringify(states[at])) differing.push(at);
    }
    give({ end: states[end][0], told, kept: said(kept), again, differing, more: picks.undo() });
    """
    found = run_script(tmp_path, program, ids=ids, acts=acts, held=held)
    assert found["differing"] == []
    assert found["more"] is None
    assert found["again"] == 0

    def spoken(people: list[list[str]]) -> list[list[dict[str, Any]]]:
        verdicts = [[json.loads(text) for text in said] for said in people]
        return [
            [v for v in said if v["rating"] or v["is_favourite"] or v["is_reject"] or v["note"]]
            for said in verdicts
        ]

    assert spoken(found["told"]) == spoken(found["kept"]) == spoken(found["end"])
    for verdict in (each for said in spoken(found["end"]) for each in said):
        assert not (verdict["is_reject"] and (verdict["is_favourite"] or verdict["rating"]))


def test_a_size_of_the_url_is_kept_within_what_the_page_can_show(tmp_path, foxes):
    program = """
    import { makeSheet } from "./data.js";
    import { readHash } from "./state.js";
    const sheet = makeSheet(given.document);
    give(["3", "200", "9999", "x"].map((size) => readHash(sheet, `#size=${size}`).size));
    """
    found = run_script(tmp_path, program, document=document_of(foxes))
    assert found == [40, 200, 640, 0]


def test_what_is_looked_for_are_all_words_anywhere_in_the_prompt_or_the_beginning_of_an_id(
    tmp_path, foxes
):
    program = """
    import { makeSheet, idOf, textOf } from "./data.js";
    import { candidateRows } from "./filters.js";
    import { defaultState } from "./state.js";
    const sheet = makeSheet(given.document);
    const found = (find) => candidateRows(sheet, { ...defaultState(sheet), find });
    const prompts = (find) => [...new Set(found(find).map((row) => textOf(sheet, row, "prompt")))];
    const id = idOf(sheet, 5);
    give({
      both: prompts("  NOTO fox"), one: prompts("noto").length, none: found("fox zzz").length,
      all: found("   ").length, byId: found(id.slice(0, 9)).map((row) => idOf(sheet, row) === id),
      idAndWord: found(`${id.slice(0, 9)} zzz`).length,
    });
    """
    assert run_script(tmp_path, program, document=document_of(foxes)) == {
        "both": ["a fox, noto"],
        "one": 4,
        "none": 0,
        "all": 24,
        "byId": [True],
        "idAndWord": 0,
    }


def test_each_view_shows_the_images_that_it_is_called_after(tmp_path):
    rows = {
        "plain": (0, None),
        "flagged": (1, None),
        "failed": (2, None),
        "pending": (3, None),
        "five": (0, {"rating": 5}),
        "two": (0, {"rating": 2}),
        "loved": (0, {"is_favourite": True}),
        "refused": (0, {"is_reject": True}),
        "noted": (0, {"note": "hm"}),
    }
    program = """
    import { viewsOf } from "./filters.js";
    const rows = Object.entries(given.rows);
    const picks = { ofRow: (row) => rows[row][1][1] };
    const unseen = { values: [""], codes: rows.map(() => 0) };
    const sheet = { status: rows.map(([, [status]]) => status), texts: { unseen } };
    give(Object.fromEntries(viewsOf(sheet, picks, 3).map(({ name, test }) =>
      [name, rows.map(([label]) => label).filter((_, row) => !test || test(row))])));
    """
    assert run_script(tmp_path, program, rows=rows) == {
        "all": list(rows),
        "unjudged": ["plain", "flagged", "noted"],
        "picks": ["five", "loved"],
        "stars": ["five"],
        "favourites": ["loved"],
        "rejects": ["refused"],
        "failures": ["failed"],
        "flagged": ["flagged"],
        "unknown": [],
        "pending": ["pending"],
    }


def test_an_axis_that_is_put_into_a_place_is_there_first_and_nowhere_else(tmp_path):
    chance = random.Random(2)
    axes = ["a", "b", "c", "d", "e"]
    places = ["rows", "cols", "inner", "tabs"]
    states = []
    for _ in range(40):
        state: dict[str, list[str]] = {place: [] for place in places}
        for axis in chance.sample(axes, 5):
            if chance.random() < 0.8:
                state[chance.choice(places)].append(axis)
        states.append([state, chance.choice(places), chance.choice(axes)])
    program = """
    import { moveAxis, swapAxis } from "./state.js";
    give(given.states.map(([state, where, name]) =>
      [swapAxis(state, where, name), moveAxis(state, where, name), moveAxis(state, "", name)]));
    """
    found = run_script(tmp_path, program, states=states)
    for (state, where, name), (swapped, moved, stacked) in zip(states, found, strict=True):
        before = {axis for place in places for axis in state[place]}
        for change in (swapped, moved, stacked):
            shown = [axis for place in places for axis in change[place]]
            assert len(shown) == len(set(shown)), (state, where, name)
        assert swapped[where][0] == name
        assert moved[where][-1] == name
        assert {a for p in places for a in moved[p]} == before | {name}
        assert {a for p in places for a in stacked[p]} == before - {name}
        displaced = set(state[where][:1]) - {name}
        assert before - displaced <= {a for p in places for a in swapped[p]}


def test_an_image_is_marked_as_equal_only_to_another_image(tmp_path):
    program = """
    import { makeEquals } from "./equals.js";
    const sheet = {
      numRows: 6, imageOf: [0, 0, 1, 2, 3, 4], twin: [0, 1, 2, 2, 4, 2],
      image: { sha: ["a", "a", "b", null, null] },
    };
    const equals = makeEquals(sheet);
    const rows = [0, 1, 2, 3, 4, 5];
    give([rows.map(equals.firstOf), rows.map(equals.numTwins), equals.hasTwins()]);
    """
    equal, twins, has_twins = run_script(tmp_path, program)
    assert equal == [-1, -1, 0, -1, -1, -1], "not to itself in another cell, nor to a failure"
    assert (twins, has_twins) == ([0, 0, 2, 0, 0, 0], True)


def test_tabs_begin_at_the_models_default_and_else_at_the_first_value(tmp_path):
    program = """
    import { tabCode } from "./filters.js";
    const axis = { order: [2, 0, 1], default: given.default };
    const sheet = { axisByName: new Map([["steps", axis]]) };
    give([tabCode(sheet, { tab: {} }, "steps"), tabCode(sheet, { tab: { steps: 0 } }, "steps")]);
    """
    assert run_script(tmp_path, program, default=1) == [1, 0]
    assert run_script(tmp_path, program, default=-1) == [2, 0]
