"""The parts of the page that act on images, in node: which images each of them means."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.report.runs import make_run
from tests.report.scripts import BROWSER, document_of, run_script
from tests.report.test_scripts import PICKS_PROGRAM, A, B

C = "c" * 16


def said(image_id: str, hour: str, who: str = "", **verdict: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "rating": None,
        "is_favourite": False,
        "is_reject": False,
        "note": "",
        "who": who,
        "picked_at": f"2026-11-01T{hour}:00:00.000Z",
        **verdict,
    }


# -------------------------------------------------------------------- picks


def test_a_verdict_on_several_images_is_taken_back_only_if_all_of_them_have_it(tmp_path: Path):
    program = (
        PICKS_PROGRAM
        + """
    const now = () => ids.map((id) => picks.of(id)).map((pick) =>
      [pick?.rating ?? null, Boolean(pick?.is_favourite), Boolean(pick?.is_reject)]);
    const all = [];
    for (const [how, ...rest] of [["rate", 4], ["favour"], ["reject"]]) {
      picks.clear(ids);
      picks[how]([ids[0]], ...rest);
      for (let i = 0; i < 2; i += 1) { picks[how](ids, ...rest); all.push(now()); }
    }
    give(all);
    """
    )
    none = [None, False, False]
    for_all = [[4, False, False], [None, True, False], [None, False, True]]
    expected = itertools.chain(*([[one] * 2, [none] * 2] for one in for_all))
    assert run_script(tmp_path, program, ids=[A, B]) == list(expected)


def test_what_this_browser_kept_that_is_no_verdict_is_left_out(tmp_path: Path):
    program = (
        PICKS_PROGRAM
        + "give([ids.map((id) => picks.of(id)?.rating ?? null), picks.numNew(), saved]);"
    )
    baked = [said(A, "09", rating=1), said(B, "09", rating=1)]
    kept = [
        said(B, "10", rating=5),
        {"image_id": A, "rating": 9, "picked_at": "2027", "note": ""},
        {"image_id": "x", "rating": 1, "picked_at": "2027", "note": ""},
        None,
    ]
    found = run_script(tmp_path, program, ids=[A, B], baked=baked, kept=kept)
    assert found == [[1, 5], 1, [[]]]


def test_undo_on_a_served_page_is_a_new_verdict_that_says_what_was_said_before(tmp_path: Path):
    program = (
        PICKS_PROGRAM
        + """
    let minute = 10;
    const sent = [];
    const served = makePicks(sheet, { isSent: true, who: () => "ann",
      save: (_, changed) => { sent.push(...changed); return true; },
      now: () => `2026-11-02T10:${minute++}:00.000Z` });
    served.hear([{ image_id: ids[0], pick: given.held, said: [given.held] }]);
    served.favour(ids);
    served.undo();
    give(sent.slice(-2).map((each) =>
      [each.image_id, each.rating, each.is_favourite, each.who,
        each.picked_at > sent[1].picked_at]));
    """
    )
    held = said(A, "09", "ann", rating=4)
    found = run_script(tmp_path, program, ids=[A, B], held=held)
    assert found == [[A, 4, False, "ann", True], [B, None, False, "ann", True]]


def test_an_import_takes_verdicts_on_images_of_the_sheet_and_nothing_that_is_none(tmp_path: Path):
    program = (
        PICKS_PROGRAM
        + """
    const file = (picks, format = "promptlab-picks") => JSON.stringify({ format, picks });
    const count = picks.importText(file(given.entries));
    let refused = 0;
    for (const text of [file([], "other"), "{}", "null", "[]", file({}), "no JSON"]) {
      try { picks.importText(text); } catch { refused += 1; }
    }
    give([count, refused, ids.map((id) => picks.saidOf(id).map(({ who, rating }) => [who,
      rating]))]);
    """
    )
    entries = [
        said(A, "09", "ann", rating=2),
        said(A, "10", "bob", rating=3),
        said(C, "10", rating=5),  # of another sheet
        said(B, "10", rating=6),
        {**said(B, "10", rating=1), "picked_at": 5},
        None,
    ]
    found = run_script(tmp_path, program, ids=[A, B], entries=entries)
    assert found == [2, 6, [[["ann", 2], ["bob", 3]], []]]


def test_a_verdict_that_is_cleared_says_nothing_at_all(tmp_path: Path):
    program = (
        PICKS_PROGRAM
        + """
    picks.rate(ids, 4); picks.favour(ids); picks.annotate(ids[0], "gold");
    picks.clear(ids);
    give([picks.numNew(), ids.map((id) => picks.of(id).note)]);
    """
    )
    assert run_script(tmp_path, program, ids=[A, B]) == [0, ["", ""]]


def test_a_saved_file_is_in_the_order_of_judging(tmp_path: Path):
    program = (
        PICKS_PROGRAM
        + """
    picks.rate([ids[1]], 1);
    picks.rate([ids[0]], 2);
    picks.annotate(ids[1], "later");
    give(JSON.parse(picks.exportText()).picks.map((pick) => pick.image_id));
    """
    )
    assert run_script(tmp_path, program, ids=[A, B]) == [A, B]


def test_what_a_server_tells_replaces_what_the_run_held_also_where_it_was_taken_back(
    tmp_path: Path,
):
    program = (
        PICKS_PROGRAM
        + """
    const heard = [];
    picks.onChange((changed) => heard.push(changed));
    const tell = (pick, said) => picks.hear([{ image_id: ids[0], pick, said }]);
    const seen = () => [picks.of(ids[0])?.rating ?? null, picks.saidOf(ids[0]).map((p) => p.who),
      picks.isShared(), picks.isRevealed(ids[0])];
    const all = [seen()];
    tell(given.ann, [given.ann]); all.push(seen());
    tell(given.bob, [given.ann, given.bob]); all.push(seen());
    tell(given.bob, [given.taken, given.bob]); all.push(seen());
    tell(null, []); all.push(seen());
    picks.hear([]);
    give({ all, heard: heard.length });
    """
    )
    ann, bob = said(A, "09", "ann", rating=2), said(A, "10", "bob", rating=4)
    taken = said(A, "11", "ann")
    found = run_script(
        tmp_path,
        program,
        ids=[A, B],
        baked=[said(A, "08", rating=1)],
        ann=ann,
        bob=bob,
        taken=taken,
    )
    assert found["all"] == [
        [1, [""], False, False],
        [2, ["ann"], False, False],
        [4, ["ann", "bob"], True, False],
        [4, ["bob"], False, False],
        [None, [], False, False],
    ]
    assert found["heard"] == 4, "no news change nothing"


def test_a_note_that_an_earlier_visit_left_half_typed_goes_to_its_image_once(tmp_path: Path):
    program = BROWSER + (
        """
    const { makeDrafts } = await import("./drafts.js");
    const annotated = [];
    const sheet = { sheet_id: "s", imageById: new Map([[given.a, 0]]) };
    const visit = () => makeDrafts(sheet, { annotate: (...what) => annotated.push(what) });
    visit().keep(given.a, "half");
    makeDrafts({ ...sheet, sheet_id: "another" }, { annotate: () => annotated.push("wrong") });
    visit();
    visit().keep(given.b, "of an image that is gone");
    visit().keep(given.a, "dropped");
    visit.last = visit();
    visit.last.keep(given.a, "x");
    visit.last.drop();
    visit();
    give(annotated);
    """
    )
    assert run_script(tmp_path, program, a=A, b=B) == [[A, "half"], [A, "dropped"]]


# -------------------------------------------------------------------- what a key acts on


def test_keys_mean_verdicts_and_one_that_is_held_down_means_none(tmp_path: Path):
    program = BROWSER + (
        """
    const { makeJudge } = await import("./judge.js");
    const done = [];
    const how = (name) => (ids, ...rest) => done.push([name, ids, ...rest]);
    const picks = { of: () => null, isKept: () => true };
    for (const name of ["rate", "favour", "reject", "clear"]) picks[name] = how(name);
    const sheet = { said: {}, imageOf: [0, 0, 1], image: { id: ["a", "b"] }, axes: [],
      axisByName: new Map(["subject", "seed"].map((name) =>
        [name, { name, values: ["x"], codes: [0, 0, 0] }])) };
    const app = { sheet, picks, who: () => "", state: {}, blind: { isHidden: () => false } };
    const judge = makeJudge(app);
    for (const key of given.keys) {
      const act = judge.actionOf({ key, repeat: false });
      if (act) act([0, 1, 2]); else done.push([key, null]);
    }
    const numDone = done.length;
    judge.actionOf({ key: "5", repeat: true })([0]);
    makeJudge({ ...app, sync: { mayJudge: false } }).actionOf({ key: "5" })([0]);
    give([done.length - numDone, done]);
    """
    )
    keys = ["1", "5", "6", "f", "F", "x", "0", "Backspace", "c", "Enter", "F5"]
    number, done = run_script(tmp_path, program, keys=keys)
    both = ["a", "b"]  # two rows may show one image
    assert number == 0
    assert done == [
        ["rate", both, 1],
        ["rate", both, 5],
        ["6", None],
        ["favour", both],
        ["favour", both],
        ["reject", both],
        ["clear", both],
        ["clear", both],
        ["c", None],
        ["Enter", None],
        ["F5", None],
    ]


def test_a_key_on_a_chosen_image_means_all_that_are_chosen_and_on_another_that_one(tmp_path: Path):
    program = BROWSER + (
        """
    const { makeSelection } = await import("./selection.js");
    const sheet = { imageOf: [0, 1, 2, 0], image: { id: ["a", "b", "c"] }, rowOfImage: [0, 1, 2],
      imageById: new Map([["a", 0], ["b", 1], ["c", 2]]) };
    const app = { sheet, state: { chosen: [] }, setState: (change) => Object.assign(app.state,
      change) };
    const selection = makeSelection(app);
    const seen = [];
    const see = () => seen.push([...selection.ids()]);
    selection.toggle(["b"]); see();
    selection.toggle(["b", "c"]); see();
    const groups = [0, 1, 2].map(selection.groupOf);
    const rows = selection.rows();
    selection.toggle(["b", "c"]); see();
    selection.toggle(["a", "b"]); selection.toggle(["a"]); see();
    selection.clear(); see();
    give([seen, groups, rows]);
    """
    )
    seen, groups, rows = run_script(tmp_path, program)
    assert seen == [["b"], ["b", "c"], [], ["b"], []]
    assert groups == [[0], [1, 2], [1, 2]]
    assert rows == [1, 2]


def test_a_line_holds_the_images_of_its_cells_and_a_survey_of_it_fits(tmp_path: Path):
    program = BROWSER + (
        """
    const { makeHeads } = await import("./heads.js");
    const grid = {
      layout: () => ({ rows: [0, 1, 2], cols: [0, 1] }),
      membersAt: (row, col) => (row === 1 ? [] : [10 * row + col, 100 + 10 * row + col]),
    };
    const heads = makeHeads({ sheet: {}, grid });
    give([heads.rowsOf("rows", 2), heads.rowsOf("cols", 1)]);
    """
    )
    assert run_script(tmp_path, program) == [[20, 120, 21, 121], [1, 101, 21, 121]]


def test_arrows_pass_empty_cells_and_stop_at_the_edge_and_wrap_in_a_wall(tmp_path: Path):
    program = """
    import { makePlaces } from "./places.js";
    const full = new Set(["0,0", "0,2", "2,0", "2,2"]);
    const of = (layout) => makePlaces({ state: {} }, null, { layout: () => layout,
      slotsAt: (row, col) => (full.has(`${row},${col}`) ? [[1]] : null) });
    const lines = (count) => Array.from({ length: count }, () => ({}));
    const grid = of({ rows: lines(3), cols: lines(3), numSlots: 2 });
    const wall = of({ rows: lines(3), cols: lines(3), lines: lines(7), isWall: true,
      numColumns: 3 });
    const go = (places, row, col, down, across) => {
      const next = places.neighbour({ row, col, slot: 1 }, down, across);
      return next && [next.row, next.col, next.slot];
    };
    give([
      go(grid, 0, 0, 0, 1), go(grid, 0, 0, 1, 0), go(grid, 0, 2, 0, 1), go(grid, 0, 0, 0, -1),
      go(grid, 2, 2, 1, 0), go(wall, 0, 2, 0, 1), go(wall, 1, 0, 0, -1), go(wall, 0, 0, 0, -1),
      go(wall, 2, 0, 0, 1), grid.clampPlace({ row: 9, col: -1, slot: 5 }),
    ]);
    """
    assert run_script(tmp_path, program) == [
        [0, 2, 1],
        [2, 0, 1],
        None,
        None,
        None,
        [1, 0, 1],
        [0, 2, 1],
        None,
        None,
        {"row": 2, "col": 0, "slot": 1},
    ]


# -------------------------------------------------------------------- flipping


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document of a page of 2 × 2 × 3 with two seeds; one cell has failed."""
    root = make_run(
        tmp_path_factory.mktemp("warm") / "run",
        subjects=("a fox", "a yak"),
        styles=("noto", "openmoji"),
        axes={"temperature": [0.5, 1.0, 2.0]},
        fails_on="a yak, openmoji",
    )
    return document_of(root)


def test_the_counterpart_of_an_image_differs_in_one_axis_alone_where_there_is_such_a_one(
    tmp_path: Path, warm: dict[str, Any]
):
    program = """
    import { counterpart, hasPixels, makeSheet } from "./data.js";
    const sheet = makeSheet(given.document);
    const values = (row) => Object.fromEntries(sheet.axes.map((axis) =>
      [axis.name, axis.values[axis.codes[row]]]));
    const found = [];
    for (let row = 0; row < sheet.numRows; row += 1) {
      for (const axis of sheet.axes) {
        axis.values.forEach((value, code) => {
          const other = counterpart(sheet, row, axis.name, code);
          found.push([values(row), axis.name, value, other < 0 ? null : values(other),
            other >= 0 && hasPixels(sheet, other)]);
        });
      }
    }
    give(found);
    """
    found = run_script(tmp_path, program, document=warm)
    assert len(found) > 24
    for row, name, value, other, has_pixels in found:
        wanted = {**row, name: value}
        assert has_pixels
        assert other[name] == value
        if (wanted["subject"], wanted["style"]) != ("a yak", "openmoji"):
            assert other == wanted
        else:  # it has failed: the nearest image that was drawn
            assert sum(other[axis] != wanted[axis] for axis in wanted) == 1


def test_flipping_the_page_shows_and_judges_the_counterpart_and_else_the_image_itself(
    tmp_path: Path, warm: dict[str, Any]
):
    program = BROWSER + (
        """
    const { makeSheet } = await import("./data.js");
    const { makePageFlip } = await import("./pageflip.js");
    const { defaultState } = await import("./state.js");
    const sheet = makeSheet(given.document);
    const state = { ...defaultState(sheet), rows: ["subject"], cols: ["style"], inner: [],
      tabs: [] };
    let shown = null;
    const app = { sheet, state, cursor: { row: () => 0 }, grid: { setFlip: (how) =>
      (shown = how) } };
    const flip = makePageFlip(app);
    const seen = () => [Boolean(shown), sheet.status.map((_, row) => flip.rowShownFor(row))];
    const all = [seen()];
    const press = (at, more = {}) => flip.press({ timeStamp: at, ...more });
    press(0); flip.release({ timeStamp: 100 }); all.push(seen());
    press(500); flip.release({ timeStamp: 900 }); all.push(seen());
    press(1000); flip.release({ timeStamp: 1400 }); all.push(seen());
    press(2000, { shiftKey: true }); flip.release({ timeStamp: 2900 }); all.push(seen());
    press(3000, { shiftKey: true }); all.push(seen());
    press(3100, { repeat: true }); all.push(seen());
    flip.stop(); all.push(seen());
    const temperature = sheet.axisByName.get("temperature");
    const drawn = [...sheet.status];
    sheet.status.fill(2); // nothing to flip to any more
    press(4000);
    const alone = sheet.status.every((_, row) => flip.rowShownFor(row) === row);
    sheet.status = drawn;
    const kept = (row, other) => sheet.axes.every((axis) =>
      axis === temperature || axis.codes[row] === axis.codes[other]);
    give({ alone, on: all.map(([on]) => on),
      values: all.map(([, rows]) => [...new Set(rows.filter((_, row) => sheet.status[row] === 0)
        .map((row) => temperature.values[temperature.codes[row]]))].sort()),
      kept: all.map(([, rows]) => rows.every((other, row) => sheet.status[row] > 1 || kept(row,
        other))),
    });
    """
    )
    found = run_script(tmp_path, program, document=warm)
    every = ["0.5", "1", "2"]
    assert found["on"] == [False, True, False, False, True, True, True, False]
    values = found["values"]
    assert [values[i] for i in (0, 2, 3, 7)] == [every] * 4
    assert all(len(values[i]) == 1 for i in (1, 4, 5, 6))
    assert values[4] != values[5] == values[6], "the next value; a key held down is one press"
    assert all(found["kept"])
    assert found["alone"], "a key never judges an image that does not exist"


def test_in_the_large_view_a_flip_leads_back_to_the_image_and_shift_goes_through_all_values(
    tmp_path: Path, warm: dict[str, Any]
):
    program = BROWSER + (
        """
    const { makeSheet } = await import("./data.js");
    const { makeBlink } = await import("./blink.js");
    const sheet = makeSheet(given.document);
    let row = 0;
    const seen = [];
    const view = { row: () => row, isHidden: () => false,
      show: (data) => { row = data; seen.push(sheet.axes.map((axis) =>
        axis.values[axis.codes[data]])); } };
    const blink = makeBlink({ sheet, state: { cols: ["temperature"] } }, view, { lay() {} });
    const press = (at, more = {}) => blink.press({ timeStamp: at, ...more });
    press(0); blink.release({ timeStamp: 100 });
    const stays = [row !== 0, blink.base()];
    press(1000); blink.release({ timeStamp: 1900 });
    const back = [row, blink.base()];
    press(2000); blink.release({ timeStamp: 2900 });
    const held = [row, blink.base()];
    seen.length = 0;
    for (let i = 0; i < 4; i += 1) {
      press(3000, { shiftKey: true });
      blink.release({ timeStamp: 3900 });
    }
    blink.forget();
    give({ stays, back, held, seen, names: sheet.axes.map(({ name }) => name),
      base: blink.base() });
    """
    )
    found = run_script(tmp_path, program, document=warm)
    assert (found["stays"], found["back"], found["held"]) == ([True, 0], [0, -1], [0, -1])
    at = found["names"].index("temperature")
    values = [shown[at] for shown in found["seen"]]
    assert len(set(values[:2])) == 2, "the two other values, and so on"
    assert values[2:] == values[:2]
    assert len({tuple(shown[:at] + shown[at + 1 :]) for shown in found["seen"]}) == 1
    assert found["base"] == -1


# -------------------------------------------------------------------- pictures and acts


def test_a_pack_gives_each_image_its_own_picture_and_command_and_the_newest_pack_wins(
    tmp_path: Path,
):
    program = BROWSER + (
        """
    const { makePacks } = await import("./packs.js");
    const sheet = { packs: [[0, 2, "p0.js"], [[3, 1], 2, "p1.js"]], runs: [{ base: "a b/" },
      { base: null }],
      image: { run: [0, 0, 0, 1], path: ["images/é #1.png", "", "x.png", "y.png"], id: [] } };
    const packs = makePacks(sheet);
    const got = [];
    const want = (image, token = {}) => {
      packs.whenLoaded(image, token, (pack) =>
        got.push([image, packs.thumbUrl(pack, image).slice(-2), packs.commandOf(pack, image)]));
      return token;
    };
    want(0);
    packs.cancel(want(0));
    want(1); want(3); want(2);
    const urls = document.head.children.map((script) => script.src);
    window.promptlabPack(1, { t: ["t3", "t1"], c: ["c3", "c1"] });
    window.promptlabPack(0, { t: ["t0", "old"], c: ["c0", "old"] });
    want(1);
    sheet.packs.push([[2], 1, "p2.js"]);
    want(2);
    window.promptlabPack(2, { t: ["t2"], c: ["c2"] });
    give({ got, urls, files: [0, 1, 2, 3].map(packs.fileUrl) });
    """
    )
    found = run_script(tmp_path, program)
    assert found["urls"] == ["p0.js", "p1.js"]
    assert [tuple(each) for each in found["got"]] == [
        (1, "t1", "c1"),
        (3, "t3", "c3"),
        (0, "t0", "c0"),
        (1, "t1", "c1"),
        (2, "t2", "c2"),
    ]
    assert found["files"] == ["a b/images/%C3%A9%20%231.png", "", "a b/x.png", ""]


def test_a_served_page_asks_for_the_images_of_a_pack_and_asks_again_when_none_came(tmp_path: Path):
    program = BROWSER + (
        """
    const { makePacks } = await import("./packs.js");
    const sheet = { served: { pack: "/r/pack" }, packs: [[[1, 0], 2]], runs: [],
      image: { id: ["ida", "idb"] } };
    const packs = makePacks(sheet);
    const got = [];
    packs.whenLoaded(0, {}, (pack) => got.push(pack.c[1]));
    document.head.children[0].onerror();
    const ms = await tick();
    window.promptlabPack(0, { t: [], c: ["b", "a"] });
    give([document.head.children.map(({ src }) => src), ms, got]);
    """
    )
    address = "/r/pack/0.js?ids=idb,ida"
    assert run_script(tmp_path, program) == [[address, address], 3000, ["a"]]


def test_an_act_on_a_line_means_one_drawn_image_of_each_cell_or_its_picks(tmp_path: Path):
    program = BROWSER + (
        """
    const { makeAct } = await import("./act.js");
    const num = 20;
    const rows = Array.from({ length: num }, (_, row) => row);
    const sheet = { served: { act: "act" }, pick_rating: 3, imageOf: rows,
      cellOf: rows.map((row) => row >> 1),
      status: rows.map((row) => (row > 15 ? 2 : 0)),
      image: { id: rows.map((row) => `i${row}`), width: rows.map(() => 8) } };
    const verdicts = { 1: { rating: 4 }, 2: { rating: 2 }, 3: { is_favourite: true },
      5: { is_favourite: true, is_reject: true }, 17: { rating: 5 } };
    const act = makeAct({ sheet, picks: { ofRow: (row) => verdicts[row] || null } });
    const items = act.itemsOf(rows).filter(Boolean);
    for (const [, how] of items) {
      answers.push({ body: { entries: [{ num_images: 3 }, { num_images: 4 }] } });
      how();
      for (let i = 0; i < 20; i += 1) await null;
    }
    const none = act.itemsOf([16, 17]);
    give([items.map(([text]) => text), asked, none, document.getElementById("toast").textContent]);
    """
    )
    texts, asked, none, toast = run_script(tmp_path, program)
    cells = [f"i{2 * cell + 1}" for cell in range(8)]
    picked = ["i1", "i3"]
    assert texts == [
        "Draw 8 more seeds of 8 cells",
        "Draw 8 variations of 2 picks",
        "Enlarge 2 picks",
    ]
    assert asked == [
        ["act", {"kind": "seeds", "image_ids": cells, "seeds": 8}],
        ["act", {"kind": "vary", "image_ids": picked, "seeds": 8}],
        ["act", {"kind": "enlarge", "image_ids": picked}],
    ]
    assert none == [None, None, None]
    assert toast == "In the queue: 7 images"


def test_other_parameters_are_those_that_were_changed_with_the_values_as_typed(tmp_path: Path):
    program = BROWSER + (
        """
    const { makeAct } = await import("./act.js");
    const params = { temperature: 1, top_k: 64, sampler: "euler", tiled: true, guidance: null };
    const sheet = { served: { act: "act" }, imageOf: [0], image: { id: ["a"], width: [8] },
      status: [0],
      texts: { params: { values: [JSON.stringify(params)], codes: [0] } } };
    const act = makeAct({ sheet, picks: {} });
    act.open(0, makeNode("button"));
    const items = made.filter(({ tag, listeners }) => tag === "button" && listeners.click);
    items.at(-1).listeners.click({ stopPropagation() {} });
    const form = made.find(({ tag }) => tag === "form");
    const inputs = made.filter(({ tag }) => tag === "input");
    const shown = inputs.map(({ attributes, value }) => [attributes["aria-label"], value]);
    const submit = async () => {
      form.listeners.submit({ preventDefault() {} });
      for (let i = 0; i < 20; i += 1) await null;
    };
    await submit();
    const unchanged = asked.length;
    const type = (name, value) => (inputs.find((i) =>
      i.attributes["aria-label"] === name).value = value);
    type("temperature", "0.5, 2"); type("sampler", ""); type("tiled", "false"); type("guidance",
      "low, 1e1");
    answers.push({ body: { entries: [] } });
    await submit();
    give([shown, unchanged, asked]);
    """
    )
    shown, unchanged, asked = run_script(tmp_path, program)
    assert dict(shown) == {
        "temperature": "1",
        "top_k": "64",
        "sampler": "euler",
        "tiled": "true",
        "guidance": "",
    }
    assert unchanged == 0
    params = {
        "temperature": [0.5, 2],
        "sampler": [None],
        "tiled": [False],
        "guidance": ["low", 10],
    }
    assert asked == [["act", {"kind": "params", "image_ids": ["a"], "params": params}]]
