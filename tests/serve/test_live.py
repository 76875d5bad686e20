"""The live sheet over HTTP: data, packs, pictures, and a stream that is cut and resumed."""

import json
import re

import httpx2 as httpx
import pytest

from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, record_picks
from tests.serve.drawing import Drawing

RUN = "20261128_1200_foxes"


@pytest.fixture
def client(site):
    with httpx.Client(base_url=f"{site.address}/runs/{RUN}/", timeout=20) as client:
        yield client


def document_of(client):
    text = client.get("sheet.js").text
    return json.loads(re.fullmatch(r"promptlabSheet\((.*)\);\n", text, re.DOTALL)[1])


def read_events(client, url, num_rows, last_event_id=None):
    """Read a stream until so many rows came; return (id, event, data) of each event."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    events, seen, fields = [], 0, {}
    with client.stream("GET", url, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if "event" in fields:
                event = (fields.get("id"), fields["event"], json.loads(fields["data"]))
                events.append(event)
                seen += len(event[2]["row"]["at"]) if event[1] == "chunk" else 0
                if seen >= num_rows or event[1] == "reload":
                    return events
            fields = {}
    raise AssertionError(f"the stream ended after {seen} rows")


def rows_of(events):
    return [row for _, name, data in events if name == "chunk" for row in data["row"]["at"]]


def test_a_page_opens_with_the_plan_before_anything_is_drawn(drawing, client):
    page = client.get("")
    assert page.status_code == 200
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    document = document_of(client)
    assert document["chunk"]["row"]["status"] == [3] * 24, "all are pending"
    assert [axis["name"] for axis in document["axes"]][:2] == ["subject", "style"]
    assert document["defaults"]["rows"] == "subject"


def test_a_stream_cut_and_resumed_shows_each_row_once(drawing, client):
    drawing.draw(3)
    document = document_of(client)
    assert document["chunk"]["row"]["status"].count(0) == 3
    url = document["served"]["events"]
    drawing.draw(4)
    first = read_events(client, url, 4)
    drawing.draw(5)
    last_id = [number for number, name, _ in first if name == "chunk"][-1]
    again = read_events(client, url, 5, last_event_id=last_id)
    rows = rows_of(first) + rows_of(again)
    assert len(rows) == len(set(rows)) == 9
    late = document_of(client)["chunk"]
    status = dict(zip(late["row"]["at"], late["row"]["status"], strict=True))
    assert sorted(row for row, code in status.items() if code == 0) == sorted([*rows, 0, 1, 2])


def test_the_rows_of_a_resumed_stream_are_those_of_the_run(drawing, client):
    document = document_of(client)
    drawing.draw(24, fails_on="robot, noto")
    (chunk,) = [
        d for _, n, d in read_events(client, document["served"]["events"], 24) if n == "chunk"
    ]
    ids = chunk["image"]["id"]
    states = dict(zip(ids, (chunk["row"]["status"][i] for i in range(24)), strict=True))
    stored = {row["image_id"]: row["status"] for row in read_run(drawing.root).rows()}
    assert {i: ("ok", "flagged", "failed")[code] for i, code in states.items()} == stored


def test_a_stream_of_another_time_is_told_to_load_the_page_again(drawing, client):
    document_of(client)
    assert read_events(client, "events?sheet=00000000&from=0", 1) == [(None, "reload", {})]
    assert read_events(client, "events?from=nothing", 1) == [(None, "reload", {})]


def test_progress_tells_how_far_a_run_is(drawing, client):
    url = document_of(client)["served"]["events"]
    drawing.draw(6)
    events = read_events(client, url, 6)
    progress = next(data for _, name, data in events if name == "progress")
    assert progress["num_images"] == 24
    assert progress["is_drawing"]


def test_a_pack_has_thumbnails_and_commands_of_the_images_asked_for(drawing, client):
    drawing.draw(2)
    ids = document_of(client)["chunk"]["image"]["id"]
    rows = read_run(drawing.root).rows()
    drawn = [row["image_id"] for row in rows]
    pending = next(image_id for image_id in ids if image_id not in drawn)
    answer = client.get(f"pack/7.js?ids={','.join([*drawn, pending])}")
    number, pack = re.fullmatch(r"promptlabPack\((\d+),(.*)\);\n", answer.text, re.DOTALL).groups()
    assert number == "7"
    pack = json.loads(pack)
    assert [bool(thumbnail) for thumbnail in pack["t"]] == [True, True, False]
    assert pack["c"][0].startswith("promptlab sweep ")
    assert answer.headers["cache-control"] == "no-store", "the pending image comes later"


def test_images_are_asked_for_by_id_and_come_as_they_are_stored(drawing, client):
    drawing.draw(1)
    (row,) = read_run(drawing.root).rows()
    answer = client.get(f"images/{row['image_id']}.png")
    assert answer.content == read_run(drawing.root).image_bytes(row["image_id"])
    assert answer.headers["content-type"] == "image/png"
    assert client.get(f"thumbnails/{row['image_id']}.webp").content[8:12] == b"WEBP"
    assert client.get("newest").json()["image_ids"] == [row["image_id"]]


def test_nothing_but_images_of_known_runs_is_sent(drawing, client):
    drawing.draw(1)
    for url in (
        "images/..%2f..%2fsweep.yaml.png",
        "images/sweep.yaml",
        "images/0123456789abcdef.png",
        "pack/1.js?ids=../sweep",
        "pack/x.js?ids=0123456789abcdef",
        "../..%2f..%2f/sheet.js",
        "../.serve/",
        "../nothing/events",
        "../%2e%2e/sheet.js",
    ):
        assert client.get(url).status_code == 404, url


def test_a_page_has_the_verdicts_that_were_given_before_it(drawing, client):
    drawing.draw(2)
    image_id = read_run(drawing.root).rows()[0]["image_id"]
    record_picks(drawing.root, [Pick(image_id, rating=4, who="ann")])
    (pick,) = document_of(client)["picks"]
    assert (pick["image_id"], pick["rating"], pick["who"]) == (image_id, 4, "ann")


def test_a_finished_run_that_is_scored_meanwhile_has_its_scores(drawing, client):
    from tests.report.runs import write_scores

    drawing.draw(24)
    assert document_of(client)["scores"] == []
    ids = [row["image_id"] for row in read_run(drawing.root).rows()]
    write_scores(drawing.root, dict.fromkeys(ids, 0.5))
    client.get("")  # a page that is opened anew
    assert [score["name"] for score in document_of(client)["scores"]] == ["agreement"]


def test_a_run_of_a_shell_opens_with_its_first_image(site, client):
    drawing = Drawing(site.runs_dir / RUN)
    assert "no image yet" in client.get("").text
    drawing.draw(2)
    assert "promptlab" in client.get("").text
    document = document_of(client)
    assert document["chunk"]["row"]["status"] == [0, 0]
    drawing.draw(3)
    assert len(rows_of(read_events(client, document["served"]["events"], 3))) == 3
    drawing.close()
