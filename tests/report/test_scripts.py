"""The page's data, layout, state and picks, without a browser."""

import json
import random
import re
from dataclasses import asdict

import pytest

from promptlab.report.best import order_by_liking
from promptlab.report.chunks import SheetFeed
from promptlab.report.data import collect
from promptlab.report.page import modules
from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, picks_from_json, record_picks
from promptlab.verdicts.scores import Scorer, record_scores
from tests.report.runs import make_run
from tests.report.scripts import STATIC, document_of, run_script

A, B = "0123456789abcdef", "fedcba9876543210"


def test_every_module_of_the_folder_is_part_of_the_page_after_what_it_imports():
    order = modules()
    assert {path.name for path in STATIC.glob("*.js")} == set(order)
    assert order[-1] == "main.js"


def test_no_module_is_longer_than_400_lines():
    lengths = {path.name: len(path.read_text().splitlines()) for path in STATIC.glob("*.js")}
    assert [name for name, length in lengths.items() if length > 400] == []


def test_modules_can_share_one_scope():
    """Joined, they are one script: a name that two of them declare would be an error there."""
    declaration = re.compile(r"^(?:export )?(?:async )?(?:function\*?|const|let|class) (\w+)", re.M)
    names = [name for path in STATIC.glob("*.js") for name in declaration.findall(path.read_text())]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("is_higher_better", [True, False])
def test_page_and_picture_put_the_same_image_first(tmp_path, is_higher_better):
    axes = {"temperature": [0.5, 1.0, 2.0]}
    root = make_run(tmp_path / "run", axes=axes, num_seeds=3, fails_on="robot, noto")
    ids = [row["image_id"] for row in read_run(root).rows(["image_id"])]
    chance = random.Random(7)
    values = {image_id: chance.choice([0.1, 0.2, 0.3]) for image_id in chance.sample(ids, 60)}
    record_scores(root, Scorer("taste", is_higher_better=is_higher_better), values)
    verdicts = [{"rating": 4}, {"rating": 5}, {"is_favourite": True}, {"is_reject": True}]
    record_picks(root, [Pick(i, **chance.choice(verdicts)) for i in chance.sample(ids, 30)])
    data = collect([read_run(root)])
    stacks = [chance.sample(range(data.num_rows), 12) for _ in range(40)]
    program = """
    import { makeSheet } from "./data.js";
    import { orderStack } from "./layout.js";
    import { makePicks } from "./picks.js";
    const sheet = makeSheet(given.document);
    const picks = makePicks(sheet);
    const state = { blind: false, sortRows: "" };
    for (const stack of given.stacks) orderStack(sheet, picks, state, stack);
    give(given.stacks);
    """
    ordered = run_script(tmp_path, program, document=document_of(root), stacks=stacks)
    assert ordered == [order_by_liking(data, stack) for stack in stacks]


def test_without_scores_the_models_default_values_are_on_top(tmp_path):
    axes = {"temperature": [0.5, 1.0, 2.0]}
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], axes=axes, num_seeds=1)
    data = collect([read_run(root)])
    first = order_by_liking(data, range(data.num_rows))[0]
    temperature = data.axis("temperature")
    assert temperature.values[temperature.codes[first]] == "1"


# -------------------------------------------------------------------- chunks

PLANNED = [
    {"image_id": f"{i:016x}", "cell_id": f"c{i // 2}", "seed": i % 2, "subject": f"s{i // 2}"}
    for i in range(6)
]
FEED_DOCUMENT = {
    "axes": [
        {"name": "subject", "is_numeric": False, "default": -1},
        {"name": "temperature", "is_numeric": True, "default": -1},
    ],
    "scores": [],
    "picks": [],
    "said": {},
}


def test_codes_of_rows_and_values_do_not_shift_when_images_are_added(tmp_path):
    feed = SheetFeed(["subject", "temperature"])
    planned = [{**row, "status": "pending", "temperature": 1.0} for row in PLANNED]
    drawn = [{**planned[i], "status": "ok", "path": f"images/{i}.png"} for i in (4, 1)]
    more = {**planned[0], "cell_id": "new", "image_id": "f" * 16, "temperature": 0.25}
    chunks = [feed.add(planned), feed.add(drawn), feed.add([{**more, "status": "ok"}])]
    program = """
    import { makeSheet } from "./data.js";
    const sheet = makeSheet(given.document);
    const subject = sheet.axisByName.get("subject");
    const temperature = sheet.axisByName.get("temperature");
    const seen = () => ({
      status: [...sheet.status],
      subjects: subject.codes.map((code) => subject.values[code]),
      temperatures: temperature.order.map((code) => temperature.values[code]),
      ids: sheet.imageOf.map((image) => sheet.image.id[image]),
    });
    const all = [seen()];
    for (const chunk of given.chunks) { sheet.add(chunk); all.push(seen()); }
    give(all);
    """
    documents = json.loads(json.dumps([chunk.document() for chunk in chunks]))
    document = {**FEED_DOCUMENT, "chunk": documents[0]}
    before, middle, after = run_script(tmp_path, program, document=document, chunks=documents[1:])
    assert before["status"] == [3] * 6, "all are pending"
    assert middle["status"] == [3, 0, 3, 3, 0, 3]
    assert after["status"] == [3, 0, 3, 3, 0, 3, 0]
    for name in ("subjects", "ids"):
        assert before[name] == middle[name] == after[name][:6]
    assert after["temperatures"] == ["0.25", "1"], "numbers ascend, whenever they came"


def test_a_file_is_one_chunk_and_its_axes_read_back_whole(tmp_path, foxes):
    program = """
    import { describeRow, makeSheet } from "./data.js";
    const sheet = makeSheet(given.document);
    give(Array.from({ length: sheet.numRows }, (_, row) => describeRow(sheet, row)));
    """
    described = run_script(tmp_path, program, document=document_of(foxes))
    rows = sorted(read_run(foxes).rows(), key=lambda r: (r["job_id"], r["cell_id"], r["seed"]))
    assert described == [f"{r['subject']} · {r['style']} · seed {r['seed']}" for r in rows]


# -------------------------------------------------------------------- picks

PICKS_PROGRAM = """
import { makePicks, isPick } from "./picks.js";
const ids = given.ids;
const sheet = {
  picks: given.baked || [], said: {}, picks_format: "promptlab-picks", title: "t",
  runs: [{ name: "r", root: "runs/r", run_id: "1" }], pick_rating: 3, imageOf: [0, 1],
  image: { id: ids }, imageById: new Map(ids.map((id, i) => [id, i])),
};
let hour = 10;
const saved = [];
const picks = makePicks(sheet, {
  kept: given.kept || [],
  save: (all, changed) => { saved.push(changed.map((pick) => pick.image_id)); return true; },
  now: () => `2026-11-01T${hour++}:00:00.000Z`,
});
"""


def test_loading_an_older_picks_json_changes_no_newer_verdict(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    picks.rate([ids[0]], 5);
    const entry = (id, hour) => ({
      image_id: id, rating: 1, is_favourite: false, is_reject: false, note: "",
      picked_at: `2026-11-01T${hour}:00:00.000Z`,
    });
    const file = (...entries) => JSON.stringify({ format: "promptlab-picks", picks: entries });
    const older = picks.importText(file(entry(ids[0], "09")));
    const same = picks.importText(file(entry(ids[0], "10")));
    const afterOlder = picks.of(ids[0]).rating;
    const newest = file(entry(ids[0], "11"), entry(ids[1], "09"));
    const newer = picks.importText("\\ufeff" + newest);
    give({ older, same, afterOlder, newer, ratings: ids.map((id) => picks.of(id).rating) });
    """
    )
    found = run_script(tmp_path, program, ids=[A, B])
    assert found == {"older": 0, "same": 0, "afterOlder": 5, "newer": 2, "ratings": [1, 1]}


def test_a_servers_older_verdict_leaves_the_newer_one_that_is_on_its_way(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    const served = makePicks(sheet, { isSent: true, save: () => true, who: () => "ann",
      now: () => "2026-11-01T10:00:00.000Z" });
    served.rate([ids[0]], 5);
    const said = (hour, rating) => ({ image_id: ids[0], rating, is_favourite: false,
      is_reject: false, note: "", who: "ann", picked_at: `2026-11-01T${hour}:00:00.000Z` });
    const hear = (pick) => { served.hear([{ image_id: ids[0], pick, said: [pick] }]);
      return served.of(ids[0]).rating; };
    give([hear(said("09", 1)), hear(said("11", 2))]);
    """
    )
    assert run_script(tmp_path, program, ids=[A, B]) == [5, 2]


def test_a_verdict_not_sent_yet_outlives_an_answer_of_a_server_whose_clock_is_ahead(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    let minute = 0;
    const served = makePicks(sheet, { isSent: true, save: () => true, who: () => "ann",
      now: () => `2026-11-01T10:0${minute++}:00.000Z` });
    const answer = (pick, isWaiting) => {
      const known = { ...pick, picked_at: "2026-11-01T11:00:00.000Z" };
      served.hear([{ image_id: ids[0], pick: known, said: [known] }], isWaiting);
      const { rating, is_favourite: isFavourite, picked_at: at } = served.of(ids[0]);
      return [rating, isFavourite, at.slice(11, 16)];
    };
    served.rate([ids[0]], 5);
    const first = served.of(ids[0]);
    served.favour([ids[0]]);
    const second = served.of(ids[0]);
    const all = [answer(first, (pick) => pick === second), answer(second, () => false)];
    served.rate([ids[0]], 4);
    give([...all, served.of(ids[0]).is_favourite]);
    """
    )
    found = run_script(tmp_path, program, ids=[A, B])
    assert found == [[5, True, "10:01"], [5, True, "11:00"], True]


def test_a_verdict_on_many_images_is_one_undo(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    picks.rate([ids[0]], 4);
    picks.reject(ids);
    const rejected = ids.map((id) => [picks.of(id).is_reject, picks.of(id).rating]);
    const undone = picks.undo();
    give({ rejected, undone, after: ids.map((id) => picks.of(id)?.rating ?? null), saved });
    """
    )
    found = run_script(tmp_path, program, ids=[A, B])
    assert found["rejected"] == [[True, None], [True, None]], "a reject has no stars"
    assert (found["undone"], found["after"]) == ([A, B], [4, None])
    assert found["saved"] == [[], [A], [A, B], [A]], "only what changed is handed on"


def test_a_verdict_taken_back_is_no_verdict_to_save(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    const counts = [];
    picks.rate([ids[0]], 3); counts.push(picks.numNew());
    picks.rate([ids[0]], 3); counts.push(picks.numNew());
    picks.favour([ids[1]]); picks.reject([ids[1]]); counts.push(picks.numNew());
    give({ counts, text: picks.exportText() });
    """
    )
    found = run_script(tmp_path, program, ids=[A, B])
    assert found["counts"] == [1, 0, 1]
    (pick,) = picks_from_json(found["text"])
    assert (pick.image_id, pick.is_reject, pick.is_favourite) == (B, True, False)


def test_a_verdict_of_the_run_that_is_taken_back_is_saved_as_taken_back(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    picks.rate([ids[0]], 5);
    picks.clear([ids[1]]);
    give({ count: picks.numNew(), text: picks.exportText() });
    """
    )
    baked = [asdict(Pick(A, rating=5, picked_at="2026-11-01T09:00:00Z"))]
    found = run_script(tmp_path, program, ids=[A, B], baked=baked)
    assert found["count"] == 1
    (pick,) = picks_from_json(found["text"])
    assert (pick.image_id, pick.is_cleared) == (A, True)


def test_one_rule_makes_picks_on_the_page_and_in_python(tmp_path):
    given = [
        Pick(A, rating=rating, is_favourite=favourite, is_reject=reject)
        for rating in (None, 1, 2, 3, 4, 5)
        for favourite in (False, True)
        for reject in (False, True)
    ]
    program = """
    import { isPick } from "./picks.js";
    give(given.picks.map((pick) => isPick(pick, given.threshold)));
    """
    for threshold in (2, 3, 5):
        dicts = [
            {"rating": p.rating, "is_favourite": p.is_favourite, "is_reject": p.is_reject}
            for p in given
        ]
        found = run_script(tmp_path, program, picks=dicts, threshold=threshold)
        assert found == [pick.is_pick(threshold) for pick in given]


# -------------------------------------------------------------------- state and texts


def test_the_url_brings_the_whole_state_back(tmp_path, foxes):
    program = """
    import { makeSheet } from "./data.js";
    import { defaultState, readHash, writeHash } from "./state.js";
    const sheet = makeSheet(given.document);
    const state = {
      ...defaultState(sheet), rows: ["seed"], cols: ["style"], tabs: ["subject"],
      tab: { subject: 2 }, hidden: { style: new Set([1]) }, order: { style: [2, 0, 1] },
      view: "unjudged", find: "a, b&c", fold: true, size: 200, sortRows: "look",
      chosen: [sheet.image.id[3], sheet.image.id[0]], theme: "dark",
    };
    const again = readHash(sheet, "#" + writeHash(sheet, state));
    const sets = (hidden) => Object.entries(hidden).map(([name, codes]) => [name, [...codes]]);
    const plain = (each) => ({ ...each, hidden: sets(each.hidden) });
    give([plain(state), plain(again), writeHash(sheet, defaultState(sheet))]);
    """
    state, again, nothing = run_script(tmp_path, program, document=document_of(foxes))
    assert again == state
    assert nothing == ""


@pytest.mark.parametrize(
    ("values", "prefix"),
    [
        (["art/deco", "art/nouveau", "art/pop"], "art/"),
        (["art/deco", "art/nouveau", "cubism"], ""),
        (["fluent_flat", "fluent_color", "fluent_high"], "fluent_"),
        (["noto", "notes", "nope"], ""),
        (["art/a", "art/b"], ""),
        (["art/", "art/a", "art/b"], ""),
    ],
)
def test_what_all_labels_begin_with_is_dropped_at_a_break(tmp_path, values, prefix):
    program = 'import { commonPrefix } from "./text.js"; give(commonPrefix(given.values));'
    assert run_script(tmp_path, program, values=values) == prefix


@pytest.mark.parametrize(
    ("pixels", "mark"),
    [
        ({"a": ["1"], "b": ["1"]}, "same"),
        ({"a": ["1"], "b": ["2"]}, "differs"),
        ({"a": ["1"], "b": [None]}, "differs"),
        ({"a": [None], "b": [None]}, "differs"),  # two failures are no equal pictures
        ({"a": ["1"]}, "alone"),
        ({"a": ["1", "1"], "b": ["1", "1"]}, "same"),
        ({"a": ["1", "1"], "b": ["1", "2"]}, "differs"),
    ],
    ids=str,
)
def test_runs_are_compared_by_the_pixels_of_the_same_cell_and_seed(tmp_path, pixels, mark):
    """`pixels` of one cell, by run; another cell beside it is the same in both."""
    rows = [(run, "here", sha) for run, shas in pixels.items() for sha in shas]
    rows += [("a", "there", "9"), ("b", "there", "9")]
    axes = {"run": [row[0] for row in rows], "subject": [row[1] for row in rows]}
    program = """
    import { ALONE, DIFFERS, SAME, markDifferences } from "./marks.js";
    const axes = Object.entries(given.axes).map(([name, values]) => {
      const distinct = [...new Set(values)];
      return { name, values: distinct, codes: values.map((value) => distinct.indexOf(value)) };
    });
    const sheet = {
      axes, axisByName: new Map(axes.map((axis) => [axis.name, axis])), numRows: given.sha.length,
      imageOf: given.sha.map((_, row) => row), image: { sha: given.sha },
    };
    const names = { [ALONE]: "alone", [DIFFERS]: "differs", [SAME]: "same" };
    give([...markDifferences(sheet)].map((mark) => names[mark]));
    """
    found = run_script(tmp_path, program, axes=axes, sha=[row[2] for row in rows])
    assert found == [mark] * (len(rows) - 2) + ["same"] * 2


def test_equal_pictures_are_marked_only_where_they_are_the_exception(tmp_path):
    program = """
    import { rareMark } from "./marks.js";
    give(given.all.map((marks) => rareMark({ marks })));
    """
    same, differs, alone = 1, 2, 3
    marks = [[same] * 9 + [differs], [differs] * 9 + [same], [differs] * 4, [same, alone], None]
    assert run_script(tmp_path, program, all=marks) == [differs, same, 0, 0, 0]


def test_a_margin_says_what_its_images_cost_together(tmp_path, foxes):
    program = """
    import { makeSheet } from "./data.js";
    import { isLowBetter, makeStats, marginRanges, metricsOf, metricText } from "./margins.js";
    import { makePicks } from "./picks.js";
    const sheet = makeSheet(given.document);
    const picks = makePicks(sheet);
    const free = metricsOf(sheet, picks).map(([metric]) => metric);
    sheet.numbers.cost_usd = sheet.numbers.cost_usd.map((_, row) => (row < 3 ? 0.0301 : null));
    const stats = makeStats(sheet, 2);
    sheet.numbers.cost_usd.forEach((_, row) => stats.add(row < 2 ? 0 : 1, row, picks));
    const lines = [stats.of(0), stats.of(1)];
    const [range] = marginRanges(sheet, picks, lines.map((stats) => ({ stats })), []).filter(
      ({ metric }) => metric === "cost",
    );
    give([free.includes("cost"), lines.map((one) => metricText("cost", one)), range.label,
      isLowBetter(sheet, "cost")]);
    """
    found = run_script(tmp_path, program, document=document_of(foxes))
    assert found == [False, ["0.0602", "0.0301"], "cost, USD", True]
