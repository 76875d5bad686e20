"""On a served page no verdict is lost on its way, and none is sent twice or as somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.scripts import BROWSER, run_script

A, B = "a" * 16, "b" * 16

SYNC = (
    BROWSER
    + """
const { makeSync, signature } = await import("./sync.js");
const { outbox } = await import("./outbox.js");
const heard = [];
const served = { picks: "picks", picks_version: 3, role: "rate", is_blind: false };
const open = (more = {}) => makeSync({ served: { ...served, ...more } },
  { onState() {}, picks: () => ({ hear: (news) => heard.push(news) }), who: () => "ann" });
let minute = 10;
const pick = (id, rating, who = "ann") =>
  ({ image_id: id, rating, who, picked_at: `2026-11-01T10:${minute++}:00Z` });
const fine = (version = 4, news = [], refused = []) => ({ body: { version, news, refused } });
const short = ({ image_id: id, rating }) => [id[0], rating];
const sent = () => asked.map(([, { picks }]) => picks.map(short));
const [a, b] = given.ids;
"""
)


def play(folder: Path, program: str) -> Any:
    """Run a program beside a served page's verdicts."""
    return run_script(folder, SYNC + program, ids=[A, B])


def test_a_verdict_waits_until_the_server_has_it_however_often_it_must_be_sent(tmp_path: Path):
    program = """
    const sync = open();
    const full = { status: 500, body: { error: "the disk is full" } };
    answers.push(null, full, null, null, null, null, fine());
    const isKept = sync.save([], [pick(a, 4)]);
    const pauses = [];
    const troubles = [];
    for (let i = 0; i < 7; i += 1) {
      pauses.push(await tick());
      troubles.push([sync.trouble(), sync.numWaiting(), sync.stateText()]);
    }
    const [numSent, left] = [sent(), waits().length];
    sync.save([], [pick(b, 1)]);
    answers.push(null, fine());
    await tick();
    const next = await tick();
    give({ isKept, pauses, troubles, sent: numSent, left, next, address: asked[0][0] });
    """
    found = play(tmp_path, program)
    assert found["isKept"] is True
    assert found["pauses"] == [150, 2000, 4000, 8000, 16000, 30000, 30000]
    assert found["troubles"][0] == ["no connection", 1, "1 waiting"]
    assert found["troubles"][1] == ["the disk is full", 1, "1 waiting"]
    assert found["troubles"][-1] == ["", 0, "Saved"]
    assert found["sent"] == [[["a", 4]]] * 7
    assert (found["left"], found["address"]) == (0, "/runs/a/picks")
    assert found["next"] == 2000, "after an answer the first pause is short again"


def test_a_verdict_changed_while_the_first_one_is_on_its_way_is_sent_too(tmp_path: Path):
    program = """
    const sync = open();
    sync.save([], [pick(a, 1), pick(b, 2)]);
    answers.push(fine(7), fine(8));
    const first = tick();
    sync.save([], [pick(a, 5)]);
    onWindow.pagehide();
    const numAtOnce = asked.length;
    await first;
    const waiting = outbox.items("/runs/a/picks").map(short);
    while (waits().length) await tick();
    give({ waiting, sent: sent(), versions: asked.map(([, { version }]) => version),
      left: sync.numWaiting(), heard: heard.length, numAtOnce });
    """
    found = play(tmp_path, program)
    assert found["numAtOnce"] == 1, "nothing is sent twice"
    assert found["waiting"] == [["a", 5]]
    assert found["sent"] == [[["a", 1], ["b", 2]], [["a", 5]]]
    assert found["versions"] == [3, 7], "what the server told last is what it is asked from"
    assert (found["left"], found["heard"]) == (0, 2)


def test_what_is_heard_while_a_newer_verdict_waits_comes_with_word_of_what_waits(tmp_path: Path):
    program = """
    const waitingAtHearing = [];
    const hear = (_, isWaiting) => waitingAtHearing.push([a, b].map((id) =>
      isWaiting({ image_id: id, who: "ann" })));
    const sync = makeSync({ served }, { onState() {}, picks: () => ({ hear }), who: () => "ann" });
    sync.save([], [pick(a, 5), pick(b, 2)]);
    answers.push(fine(), fine());
    const first = tick();
    sync.save([], [pick(a, 4)]);
    sync.hear({ version: 4, news: [] });
    await first;
    await tick();
    give(waitingAtHearing);
    """
    assert play(tmp_path, program) == [[True, True], [True, False], [False, False]]


def test_of_one_person_the_last_verdict_on_an_image_is_sent_and_of_two_people_both(tmp_path: Path):
    program = """
    const sync = open();
    const said = [[1, "ann"], [2, "bob"], [3, "ann"]];
    for (const [rating, who] of said) sync.save([], [pick(a, rating, who)]);
    answers.push(fine());
    await tick();
    give([waits().length, asked[0][1].picks.map(({ rating, who }) => [rating, who])]);
    """
    assert play(tmp_path, program) == [0, [[2, "bob"], [3, "ann"]]]


def test_many_verdicts_are_sent_in_several_requests_one_after_the_other(tmp_path: Path):
    program = """
    const sync = open();
    const one = (_, i) => ({ image_id: String(i), rating: 1, who: "" });
    const many = Array.from({ length: 450 }, one);
    sync.save([], many);
    answers.push(fine(), fine(), fine());
    while (waits().length) await tick();
    give(asked.map(([, { picks }]) => [picks.length, picks[0].image_id]));
    """
    assert play(tmp_path, program) == [[200, "0"], [200, "200"], [50, "400"]]


def test_what_an_earlier_page_left_is_sent_by_the_next_one_and_never_by_who_may_only_look(
    tmp_path: Path,
):
    program = """
    outbox.add("/runs/a/picks", [pick(a, 4)], ({ image_id: id }) => id);
    const viewer = open({ role: "view" });
    const saved = viewer.save([], [pick(b, 1)]);
    const left = outbox.items("/runs/a/picks").length;
    const looking = [viewer.mayJudge, saved, waits().length, viewer.stateText(), left];
    const sync = open();
    answers.push(fine());
    await tick();
    give({ looking, kept: sync.kept.length, sent: sent(), addresses: outbox.addresses() });
    """
    found = play(tmp_path, program)
    assert found["looking"] == [False, True, 0, "View only", 1]
    assert (found["kept"], found["sent"], found["addresses"]) == (1, [[["a", 4]]], [])


def test_where_the_browser_keeps_nothing_a_verdict_is_sent_and_said_not_to_be_kept(tmp_path: Path):
    program = """
    isFull = true;
    const sync = open();
    const isKept = sync.save([], [pick(a, 4)]);
    const addresses = outbox.addresses();
    answers.push(null, fine());
    await tick();
    isFull = false;
    await tick();
    give({ isKept, addresses, sent: sent(), left: outbox.items("/runs/a/picks") });
    """
    found = play(tmp_path, program)
    assert (found["isKept"], found["addresses"]) == (False, ["/runs/a/picks"])
    assert (found["sent"], found["left"]) == ([[["a", 4]]] * 2, [])


def test_a_page_that_closes_sends_what_waits_and_one_that_is_online_again_does_so_at_once(
    tmp_path: Path,
):
    program = """
    const sync = open();
    onWindow.pagehide();
    const nothing = asked.length;
    sync.save([], [pick(a, 4)]);
    answers.push(null, fine());
    onWindow.pagehide();
    for (let i = 0; i < 20; i += 1) await null;
    const sentAtOnce = asked.length;
    onWindow.online();
    const [{ ms }] = waits();
    await tick();
    give([nothing, sentAtOnce, ms, asked.length, sync.numWaiting()]);
    """
    assert play(tmp_path, program) == [0, 1, 0, 2, 0]


def test_what_the_server_refuses_is_told_and_what_it_knows_is_heard(tmp_path: Path):
    program = """
    const sync = open();
    sync.save([], [pick(a, 4)]);
    answers.push(fine(9, [{ image_id: a }], ["no such image"]));
    await tick();
    sync.hear({ version: 12, news: [{ image_id: b }] });
    sync.save([], [pick(b, 4)]);
    answers.push(fine());
    await tick();
    const said = document.getElementById("toast").textContent;
    give({ heard, said, version: asked[1][1].version });
    """
    found = play(tmp_path, program)
    assert found["heard"] == [[{"image_id": A}], [{"image_id": B}], []]
    assert (found["said"], found["version"]) == ("Not kept: no such image", 12)


@pytest.mark.parametrize(
    ("served", "name", "signed"),
    [
        ({"role": "run", "link": "", "who": ""}, "ann", "ann"),
        ({"role": "run", "link": "", "who": "owner"}, "", "owner"),
        ({"role": "rate", "link": "jury", "who": "jury"}, "ann", "ann (jury)"),
        ({"role": "view", "link": "jury", "who": "jury"}, "", "jury"),
    ],
)
def test_a_verdict_is_signed_with_the_own_name_and_that_of_the_link(
    tmp_path: Path, served: dict[str, str], name: str, signed: str
):
    program = "give(signature(given.served, given.name));"
    assert run_script(tmp_path, SYNC + program, ids=[A, B], served=served, name=name) == signed


def test_guests_of_one_link_are_told_apart_and_each_stays_the_same(tmp_path: Path):
    program = """
    const link = { role: "rate", link: "jury", who: "jury" };
    const mine = [signature(link, ""), signature(link, "")];
    stored.clear();
    give([...mine, signature(link, "")]);
    """
    first, again, other = play(tmp_path, program)
    assert first == again != other
    assert first.startswith("guest ")
    assert first.endswith(" (jury)")
