"""What several people say of the same images, and how far they agree."""

import json

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.store import read_run
from promptlab.verdicts import picks
from promptlab.verdicts.picks import Pick
from tests.report.runs import make_run
from tests.report.scripts import run_script
from tests.report.test_scripts import PICKS_PROGRAM
from tests.report.test_values import verdict

A, B = "a" * 16, "b" * 16

AGREEMENT = """
import { agreementOn } from "./agreement.js";
give(given.said.map((said) => agreementOn(said, 3)));
"""


def test_people_agree_as_far_as_pairs_of_them_pick_the_same_images(tmp_path):
    pick, low = verdict(A, 9, rating=4), verdict(A, 9, rating=1)
    reject, favourite = verdict(A, 9, is_reject=True), verdict(A, 9, is_favourite=True)
    only_a_note = verdict(A, 9, note="hm")
    said = [
        [pick, favourite],
        [pick, reject],
        [low, reject],
        [pick, pick, reject],
        [pick, pick, low, reject],
        [pick, only_a_note],
        [pick],
        [],
    ]
    found = run_script(tmp_path, AGREEMENT, said=said)
    assert found == pytest.approx([1, 0, 1, 1 / 3, 2 / 6, None, None, None])


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A page of 2 subjects × 2 styles that ann and bob judged, as its picks.parquet says."""
    root = make_run(
        tmp_path_factory.mktemp("people") / "run",
        subjects=["a fox", "a robot"],
        styles=["noto", "openmoji"],
        num_seeds=1,
    )
    id_of = {(r["subject"], r["style"]): r["image_id"] for r in read_run(root).rows()}
    both = [
        (("a fox", "noto"), 5, 4),  # a pick for both
        (("a fox", "openmoji"), 5, 1),
        (("a robot", "noto"), 1, 2),  # for neither
    ]
    given = [
        Pick(id_of[cell], rating=rating, who=who)
        for cell, *ratings in both
        for who, rating in zip(("ann", "bob"), ratings, strict=True)
    ]
    picks.record_picks(root, [*given, Pick(id_of["a robot", "openmoji"], rating=5, who="ann")])
    return write_contact_sheet(root, ReportOptions(png=False)).index_html


def bars(page, selector):
    return [
        title
        for title in page.page.eval_on_selector_all(
            f"{selector} .bars li", "nodes => nodes.map(n => n.title.split(' images')[0])"
        )
        if title.startswith("people")
    ]


@pytest.mark.browser
def test_the_margins_say_how_far_people_agree_and_on_how_many_images(browse, judged):
    page = browse().open(judged)
    page.keys("m")
    assert bars(page, ".row-head") == ["people agree: 50 % of 2", "people agree: 100 % of 1"]
    assert bars(page, ".col-head") == ["people agree: 100 % of 2", "people agree: 0 % of 1"]
    assert page.texts(".corner .agreement") == ["people agree: 67 % of 3"]
    overflowing = "n => n.filter((each) => each.scrollWidth > each.clientWidth).length"
    assert page.page.eval_on_selector_all(".bar-value", overflowing) == 0
    page.keys("s")
    assert page.texts(".people") == [
        "ann 4, bob 3: they agree on 67 % of the 3 images that several judged"
    ]
    page.page.select_option('select[aria-label="Sort rows"]', "agreed")
    assert page.rows() == ["a robot", "a fox"]


@pytest.mark.browser
def test_a_person_who_judges_alone_reads_nothing_of_agreement(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("4", "ArrowRight", "x", "m", "s")
    assert bars(page, ".row-head") == []
    assert page.page.locator(".agreement, .people").count() == 0


@pytest.mark.browser
def test_a_verdict_without_a_name_beside_those_of_several_people_says_so(browse, judged):
    page = browse().open(judged)
    page.slot("a fox · noto").hover()
    page.keys("2")
    assert "not signed" in page.toast()
    page.slot("a robot · openmoji").hover()
    page.keys("2")
    assert "not signed" not in page.toast(), "one person judged it: it may be the same"


@pytest.mark.browser
def test_a_third_person_is_counted_once_named_and_another_ones_file_beside_the_own(browse, judged):
    page = browse().open(judged)
    page.keys("m", "s")
    page.page.fill('input[aria-label="Your name"]', "cleo")
    page.keys("Tab")
    page.slot("a robot · openmoji").hover()
    page.keys("1")
    assert page.texts(".people") == [
        "ann 4, bob 3, cleo 1: they agree on 50 % of the 4 images that several judged"
    ]
    assert bars(page, ".row-head")[1] == "people agree: 50 % of 2", "the margins follow a verdict"


def test_verdicts_of_two_people_in_one_browser_are_both_kept(tmp_path):
    program = """
    import { makePicks } from "./picks.js";
    const ids = given.ids;
    const sheet = {
      picks: [], said: {}, picks_format: "promptlab-picks", title: "t", runs: [],
      pick_rating: 3, imageById: new Map(ids.map((id, i) => [id, i])),
    };
    let name = "ann";
    let hour = 10;
    const now = () => `2026-11-01T${hour++}:00:00.000Z`;
    const picks = makePicks(sheet, { who: () => name, now });
    picks.rate([ids[0]], 5);
    name = "bob";
    picks.reject([ids[0]]);
    const bob = picks.of(ids[0]).is_reject;
    const file = { format: "promptlab-picks", picks: [given.cleo] };
    picks.importText(JSON.stringify(file));
    const own = picks.of(ids[0]).is_reject;
    name = "ann";
    const ann = picks.of(ids[0]).rating;
    picks.undo();
    give({ bob, own, ann, said: picks.saidOf(ids[0]).map(({ who }) => who),
      text: picks.exportText() });
    """
    cleo = verdict(A, 12, rating=2, who="cleo")
    found = run_script(tmp_path, program, ids=[A, B], cleo=cleo)
    assert (found["bob"], found["own"], found["ann"]) == (True, True, 5)
    assert found["said"] == ["ann", "cleo"], "bob's was undone, nobody else's"
    saved = [(p["who"], p["rating"]) for p in json.loads(found["text"])["picks"]]
    assert saved == [("ann", 5), ("cleo", 2)]


def test_a_named_person_starts_afresh_on_what_another_one_said(tmp_path):
    program = PICKS_PROGRAM.replace("now:", 'who: () => "bob", now:') + (
        """
    picks.favour([ids[0]]);
    give([picks.of(ids[0]).rating, picks.saidOf(ids[0]).map(({ who }) => who)]);
    """
    )
    baked = [verdict(A, 9, rating=5, who="ann")]
    found = run_script(tmp_path, program, ids=[A, B], baked=baked)
    assert found == [None, ["ann", "bob"]]


def test_a_verdict_without_a_name_goes_on_from_the_only_person_of_the_run(tmp_path):
    program = (
        PICKS_PROGRAM
        + """
    picks.favour([ids[0]]);
    give([picks.of(ids[0]).rating, picks.saidOf(ids[0]).length, picks.isShared()]);
    """
    )
    baked = [verdict(A, 9, rating=5, who="ann")]
    assert run_script(tmp_path, program, ids=[A, B], baked=baked) == [5, 1, False]
