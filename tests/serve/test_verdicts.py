"""Verdicts over HTTP: kept at once, once, signed by their link, newest wins."""

import datetime
import threading

import httpx2 as httpx
import pytest

from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, current_picks, read_picks, record_picks
from tests.serve.drawing import Drawing

RUN = "20261128_1200_foxes"


@pytest.fixture
def ids(drawing):
    drawing.draw(24)
    return [row["image_id"] for row in read_run(drawing.root).rows()]


@pytest.fixture
def client(site):
    base = f"{site.address}/runs/{RUN}/"
    with httpx.Client(base_url=base, timeout=20, headers={"Origin": site.address}) as client:
        yield client


def now(**shift):
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(**shift)).isoformat()


def verdict(image_id, who="ann", picked_at=None, **fields):
    empty = {"rating": None, "is_favourite": False, "is_reject": False, "note": ""}
    return {"image_id": image_id, "who": who, "picked_at": picked_at or now(), **empty, **fields}


def send(client, picks, **fields):
    answer = client.post("picks", json={"picks": picks, "sent_at": now(), **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_verdict_is_in_the_run_when_its_request_is_answered(drawing, client, ids):
    answer = send(client, [verdict(ids[0], rating=5, note="gold")])
    assert (answer["num_kept"], answer["refused"]) == (1, [])
    (pick,) = read_picks(drawing.root)
    assert (pick.image_id, pick.rating, pick.note, pick.who) == (ids[0], 5, "gold", "ann")


def test_a_verdict_on_an_image_that_came_while_nobody_watched_is_kept(site, client):
    unplanned = Drawing(site.runs_dir / RUN)
    unplanned.draw(2)
    client.get("sheet.js")
    unplanned.draw(2)
    image_id = read_run(unplanned.root).rows()[-1]["image_id"]
    assert send(client, [verdict(image_id, rating=2)])["num_kept"] == 1
    unplanned.close()


def test_a_verdict_that_is_sent_again_is_kept_once(drawing, client, ids):
    picks = [verdict(ids[0], rating=5)]
    send(client, picks)
    send(client, picks)
    assert len(read_picks(drawing.root)) == 1


def test_of_two_devices_the_newer_verdict_wins_whichever_arrives_first(drawing, client, ids):
    send(client, [verdict(ids[0], rating=2, picked_at=now(seconds=-10))])
    send(client, [verdict(ids[0], rating=4, picked_at=now(seconds=-30))])
    assert current_picks(drawing.root)[ids[0]].rating == 2


def test_an_answer_tells_what_others_have_said_since(drawing, client, ids):
    version = send(client, [])["version"]
    record_picks(drawing.root, [Pick(ids[1], is_favourite=True, who="bea")])
    answer = send(client, [verdict(ids[0], rating=5)], version=version)
    assert {news["image_id"] for news in answer["news"]} == {ids[0], ids[1]}
    assert send(client, [], version=answer["version"])["news"] == []
    everything = send(client, [], version="of another server")["news"]
    assert {news["image_id"] for news in everything} == {ids[0], ids[1]}


def test_a_clock_that_is_wrong_does_not_decide_for_ever(drawing, client, ids):
    late = verdict(ids[0], rating=1, picked_at=now(days=400))
    client.post("picks", json={"picks": [late], "sent_at": now(days=400)})
    client.post("picks", json={"picks": [verdict(ids[1], rating=1, picked_at=now(days=9))]})
    send(client, [verdict(ids[0], rating=5), verdict(ids[1], rating=5)])
    assert [current_picks(drawing.root)[i].rating for i in ids[:2]] == [5, 5]


def test_an_unreadable_verdict_is_refused_and_those_beside_it_are_kept(drawing, client, ids):
    changes = (
        {"image_id": "0" * 16},
        {"image_id": "../../etc/passwd"},
        {"image_id": [7]},
        {"rating": 6},
        {"rating": True},
        {"rating": "5"},
        {"is_favourite": "yes"},
        {"note": {"a": 1}},
        {"note": "x" * 20_001},
        {"picked_at": "yesterday"},
        {"picked_at": "0001-01-01T00:00:00+14:00"},
        {"picked_at": None},
        {"who": ["ann"]},
    )
    bad = [{**verdict(ids[0]), **change} for change in changes]
    answer = send(client, [*bad, verdict(ids[1], rating=3), "nothing"])
    assert answer["num_kept"] == 1
    assert len(answer["refused"]) == len(changes) + 1
    assert [pick.image_id for pick in read_picks(drawing.root)] == [ids[1]]


def test_a_request_that_is_no_list_of_verdicts_is_answered_with_what_was_expected(client, ids):
    for body in ({"picks": "all"}, {}, {"picks": [{}] * 1001}):
        answer = client.post("picks", json=body)
        assert answer.status_code == 400
        assert "expected a list" in answer.json()["error"]
    assert client.post("../nothing/picks", json={"picks": []}).status_code == 404


def test_a_link_signs_what_its_holder_says(site, drawing, client, ids):
    token = site.tokens.add("rate", "friends")
    client.cookies.set(f"promptlab_{site.port}", token)
    for who in ("", "ann", "the owner (friends)", "bob (others)"):
        send(client, [verdict(ids[0], who=who, rating=3)])
    signed = {pick.who for pick in read_picks(drawing.root)}
    assert signed == {
        "friends",
        "ann (friends)",
        "the owner (friends)",
        "bob (others) (friends)",
    }


def test_who_may_rate_and_nothing_more_does_not_see_what_others_say(site, drawing, client, ids):
    record_picks(drawing.root, [Pick(ids[0], rating=1, who="ann")])
    client.cookies.set(f"promptlab_{site.port}", site.tokens.add("rate", "friends"))
    text = client.get("sheet.js").text
    assert '"is_blind":true' in text
    assert '"picks":[]' in text
    send(client, [verdict(ids[0], who="bea", rating=5)])
    (news,) = send(client, [], who="bea")["news"]
    assert [pick["who"] for pick in news["said"]] == ["bea (friends)"]
    assert news["pick"]["rating"] == 5, "ann's star is not in it"


def test_who_may_only_view_cannot_rate(site, drawing, client, ids):
    client.cookies.set(f"promptlab_{site.port}", site.tokens.add("view", "visitor"))
    assert client.post("picks", json={"picks": [verdict(ids[0])]}).status_code == 403
    assert client.get("sheet.js").status_code == 200
    assert read_picks(drawing.root) == []


def test_no_rating_of_many_people_at_once_is_lost(site, drawing, ids):
    def rate(number):
        headers = {"Origin": site.address}
        with httpx.Client(base_url=f"{site.address}/runs/{RUN}/", headers=headers) as client:
            for image_id in ids[:5]:
                send(client, [verdict(image_id, who=f"phone {number}", rating=1 + number % 5)])

    phones = [threading.Thread(target=rate, args=(number,)) for number in range(8)]
    for phone in phones:
        phone.start()
    for phone in phones:
        phone.join()
    assert len(read_picks(drawing.root)) == 40
