"""Whatever is chosen on the page, each image stands in one place, and lines add up their images."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, record_picks
from promptlab.verdicts.scores import Scorer, record_scores
from tests.report.runs import make_run
from tests.report.scripts import document_of, run_script

AXES = ("subject", "style", "temperature", "seed")
SORTS = ("", "name", "look", "picked", "liking", "score:taste", "seconds", "failed")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of 3 × 2 × 2 × 2 with failures, verdicts of two people, and a score."""
    root = make_run(
        tmp_path_factory.mktemp("layouts") / "run",
        subjects=("a fox", "a robot", "a tiger"),
        styles=("noto", "openmoji"),
        axes={"temperature": [0.5, 2.0]},
        fails_on="robot, noto",
    )
    chance = random.Random(3)
    ids = [row["image_id"] for row in read_run(root).rows() if row["status"] == "ok"]
    verdicts = [{"rating": 2}, {"rating": 5}, {"is_favourite": True}, {"is_reject": True}]
    record_picks(
        root,
        [
            Pick(image_id, **chance.choice(verdicts), who=who)
            for who in ("ann", "bob")
            for image_id in chance.sample(ids, 11)
        ],
    )
    record_scores(root, Scorer("taste"), {i: chance.random() for i in chance.sample(ids, 15)})
    return root


def any_state(chance: random.Random) -> dict[str, Any]:
    """Return a state of the page as a URL may ask for it."""
    places: dict[str, list[str]] = {"rows": [], "cols": [], "inner": [], "tabs": []}
    for axis in AXES:
        place = chance.choice([*places, ""])
        if place:
            places[place].append(axis)
    hidden = {axis: [chance.randrange(2)] for axis in AXES if chance.random() < 0.2}
    return {
        **places,
        "hidden": hidden,
        "order": {axis: [1, 0] for axis in AXES if chance.random() < 0.3},
        "open": chance.random() < 0.4,
        "wall": chance.random() < 0.2,
        "blind": chance.random() < 0.3,
        "fold": chance.random() < 0.2,
        "view": chance.choice(["all", "all", "unjudged", "picks", "rejects", "failures"]),
        "sortRows": chance.choice(SORTS),
        "sortCols": chance.choice(SORTS),
    }


def test_each_shown_image_stands_in_one_place_and_is_found_there(tmp_path: Path, judged: str):
    program = """
    import { makeBlind } from "./blind.js";
    import { makeSheet } from "./data.js";
    import { visibleRows } from "./filters.js";
    import { computeLayout } from "./layout.js";
    import { makePicks } from "./picks.js";
    import { makePlaces } from "./places.js";
    import { defaultState } from "./state.js";
    const sheet = makeSheet(given.document);
    const picks = makePicks(sheet);
    give(given.states.map((wanted) => {
      const hidden = {};
      for (const [name, codes] of Object.entries(wanted.hidden)) hidden[name] = new Set(codes);
      const state = { ...defaultState(sheet), ...wanted, hidden };
      const app = { sheet, picks, state };
      const blind = makeBlind(app);
      const layout = computeLayout(sheet, picks, state, 900);
      const slotsAt = (row, col) => blind.slotsAt(layout, row, col);
      const membersAt = (row, col) => blind.membersAt(layout, row, col);
      const view = { layout: () => layout, slotsAt, membersAt };
      const places = makePlaces(app, null, view);
      const seen = [];
      const lost = [];
      for (let row = 0; row < layout.rows.length; row += 1) {
        for (let col = 0; col < layout.cols.length; col += 1) {
          const stacks = slotsAt(row, col) || [];
          if (stacks.length && stacks.length !== layout.numSlots) lost.push("slots");
          stacks.forEach((stack, slot) => stack.forEach((data) => {
            const place = places.placeOf(data);
            const isHere = place && place.row === row && place.col === col && place.slot === slot;
            if (!isHere) lost.push(data);
          }));
          const stacked = stacks.flat().sort((a, b) => a - b);
          const members = membersAt(row, col).sort((a, b) => a - b);
          if (stacked.join() !== members.join()) lost.push("members");
          seen.push(...stacked);
        }
      }
      const sum = (lines) => lines.reduce((total, line) => total + line.stats.num, 0);
      return {
        seen: seen.sort((a, b) => a - b), lost, visible: visibleRows(sheet, picks, state),
        read: places.readingOrder().length, shown: layout.numShown,
        counts: layout.isWall ? [] : [sum(layout.rows), sum(layout.cols)],
      };
    }));
    """
    chance = random.Random(5)
    states = [any_state(chance) for _ in range(60)]
    found = run_script(tmp_path, program, document=document_of(judged), states=states)
    assert any(len(one["visible"]) == 24 for one in found)
    for state, one in zip(states, found, strict=True):
        visible = one["visible"]
        assert one["lost"] == [], state
        assert one["seen"] == visible, state
        assert (one["read"], one["shown"]) == (len(visible), len(visible)), state
        if visible:
            assert set(one["counts"]) <= {len(visible)}, state


def test_whatever_a_link_says_an_axis_is_shown_once_and_what_is_there_not_is_left_out(
    tmp_path: Path, judged: str
):
    program = """
    import { makeSheet } from "./data.js";
    import { computeLayout } from "./layout.js";
    import { makePicks } from "./picks.js";
    import { readHash, writeHash } from "./state.js";
    const sheet = makeSheet(given.document);
    const picks = makePicks(sheet);
    give(given.hashes.map((hash) => {
      const state = readHash(sheet, hash);
      const again = readHash(sheet, `#${writeHash(sheet, state)}`);
      const { rows, cols, inner, tabs } = state;
      return {
        axes: [...rows, ...cols, ...inner, ...tabs], places: { rows, cols, inner, tabs },
        isSame: writeHash(sheet, again) === writeHash(sheet, state),
        shown: computeLayout(sheet, picks, state, 900).numShown,
      };
    }));
    """
    chance = random.Random(9)
    names = [*AXES, "nothing", ""]
    hashes = ["#rows=style&cols=style,seed&inner=seed,style&tabs=style"]
    for _ in range(30):
        places = {
            p: ",".join(chance.choices(names, k=2)) for p in ("rows", "cols", "inner", "tabs")
        }
        further = {"view": chance.choice(["picks", "zzz"]), "hide.style": "zzz", "tab.seed": "zzz"}
        query = {**places, **(further if chance.random() < 0.3 else {})}
        hashes.append("#" + "&".join(f"{name}={value}" for name, value in query.items()))
    found = run_script(tmp_path, program, document=document_of(judged), hashes=hashes)
    assert found[0]["places"] == {"rows": ["style"], "cols": ["seed"], "inner": [], "tabs": []}
    for hash_, one in zip(hashes, found, strict=True):
        assert len(one["axes"]) == len(set(one["axes"])), hash_
        assert set(one["axes"]) <= set(AXES), hash_
        assert one["isSame"], hash_
        assert one["shown"] > 0, hash_


def test_blind_nothing_tells_what_people_or_scorers_said(tmp_path: Path, judged: str):
    """The same states, once as judged and once with nothing said: the same images everywhere."""
    program = """
    import { makeBlind } from "./blind.js";
    import { makeSheet } from "./data.js";
    import { computeLayout } from "./layout.js";
    import { makePicks } from "./picks.js";
    import { defaultState } from "./state.js";
    const order = (document, wanted) => {
      const sheet = makeSheet(document);
      const picks = makePicks(sheet);
      const state = { ...defaultState(sheet), ...wanted, blind: true };
      const blind = makeBlind({ sheet, picks, state });
      const layout = computeLayout(sheet, picks, state, 900);
      const slotsAt = (row, col) => blind.slotsAt(layout, row, col);
      return layout.rows.map((_, row) => layout.cols.map((_, col) => slotsAt(row, col)));
    };
    const chunk = { ...given.document.chunk, scores: {} };
    const bare = { ...given.document, picks: [], said: {}, scores: [], chunk };
    give(given.states.map((state) => [order(given.document, state), order(bare, state)]));
    """
    chance = random.Random(6)
    states = [
        {**any_state(chance), "hidden": {}, "view": "all", "sortRows": s, "sortCols": ""}
        for s in ("", "name", "look") * 4
    ]
    found = run_script(tmp_path, program, document=document_of(judged), states=states)
    for state, (told, untold) in zip(states, found, strict=True):
        assert told == untold, state


def test_the_numbers_of_a_line_are_those_of_its_images(tmp_path: Path, judged: str):
    program = """
    import { makeSheet, textOf } from "./data.js";
    import { computeLayout } from "./layout.js";
    import { makePicks } from "./picks.js";
    import { defaultState } from "./state.js";
    const sheet = makeSheet(given.document);
    const picks = makePicks(sheet);
    sheet.numbers.cost_usd = sheet.imageOf.map((_, row) => row / 100);
    const state = { ...defaultState(sheet), rows: ["subject"], cols: ["style"] };
    const layout = computeLayout(sheet, picks, state, 900);
    const rows = sheet.imageOf.map((image, row) => ({
      line: sheet.axisByName.get("subject").codes[row], status: sheet.status[row],
      pick: picks.ofRow(row), seconds: sheet.numbers.seconds[row] || 0, cost: row / 100,
      score: sheet.scores[0].values[image],
    }));
    give({ rows, lines: layout.rows.map(({ codes, stats }) => ({ code: codes[0], ...stats })) });
    """
    found = run_script(tmp_path, program, document=document_of(judged))

    def mean(values: list[float]) -> float | None:
        return sum(values) / len(values) if values else None

    for line in found["lines"]:
        rows = [row for row in found["rows"] if row["line"] == line["code"]]
        picks = [row["pick"] for row in rows if row["pick"]]
        ratings = [pick["rating"] for pick in picks if pick["rating"]]
        judged_ones = [p for p in picks if p["is_reject"] or p["is_favourite"] or p["rating"]]
        chosen = [
            p
            for p in judged_ones
            if not p["is_reject"] and (p["is_favourite"] or (p["rating"] or 0) >= 3)
        ]
        scores = [row["score"] for row in rows if row["score"] is not None]
        expected = {
            "num": len(rows),
            "failed": sum(row["status"] in (1, 2) for row in rows),
            "numJudged": len(judged_ones),
            "numPicked": len(chosen),
            "picked": len(chosen) / len(judged_ones) if judged_ones else None,
            "rating": mean(ratings),
            "seconds": mean([row["seconds"] for row in rows]),
            "cost": sum(row["cost"] for row in rows),
            "score:taste": mean(scores),
            "best:taste": max(scores, default=None),
        }
        assert {name: line[name] for name in expected} == pytest.approx(expected)
