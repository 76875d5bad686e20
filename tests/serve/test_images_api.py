"""The images API, asked by the real `openai` package over a real connection."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptlab.serve.images_api import read_request
from promptlab.store import find_image
from tests.conftest import PAINT
from tests.serve.running import Running

openai = pytest.importorskip("openai")

PROMPT = 'a {red|blue} fox, $5 ${HOME} \\ "it\'s" __animal__ @x'


@pytest.fixture(autouse=True)
def folder(live_server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(live_server.folder)


@pytest.fixture(scope="module")
def client(live_server: Running) -> Iterator[Any]:
    with openai.OpenAI(
        base_url=f"{live_server.address}v1", api_key="any", max_retries=0, timeout=60
    ) as client:
        yield client


def png(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_models_are_listed_without_those_that_enlarge(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert "paint" in names
    assert "tiny" in names
    assert "animevideov3" not in names
    assert client.models.retrieve("paint").owned_by == "promptlab"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_images_are_rows_and_the_same_request_is_the_same_image(
    client: Any, live_server: Running
) -> None:
    def ask() -> Any:
        extra = {"seed": 5, "temperature": 0.5}
        return client.images.generate(model="paint", prompt=PROMPT, n=2, extra_body=extra)

    answer = ask()
    assert answer.size == "32x32"
    assert [image.seed for image in answer.data] == [5, 6]
    for image in answer.data:
        assert png(image.b64_json).size == (32, 32)
        run, row = find_image(image.image_id, str(live_server.folder / "runs"))
        assert (row["prompt"], row["seed"], row["model"]) == (PROMPT, image.seed, "paint")
        assert '"temperature":0.5' in row["params"]
        assert run.sweep == "api"
        assert run.image_bytes(image.image_id) == base64.b64decode(image.b64_json)
    again = ask()
    assert [one.b64_json for one in again.data] == [one.b64_json for one in answer.data]
    entries = live_server.ask("api/queue")[1]["entries"]
    sources = {entry["source"] for entry in entries if "seeds='[5,6]'" in entry["line"]}
    assert sources == {"api"}


def test_an_image_without_a_seed_is_another_one_each_time() -> None:
    seeds = {read_request({"model": "paint", "prompt": "a fox"}).seeds for _ in range(5)}
    assert len(seeds) == 5


def test_images_are_streamed_as_they_complete(client: Any) -> None:
    stream = client.images.generate(
        model="paint", prompt="a fox", n=3, stream=True, extra_body={"seed": 1}
    )
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.completed"] * 3
    assert sorted(event.seed for event in events) == [1, 2, 3]
    assert all(png(event.b64_json).size == (32, 32) for event in events)
    assert {event.size for event in events} == {"32x32"}


def test_unfinished_images_are_streamed_before_the_whole_ones(
    client: Any, live_server: Running
) -> None:
    text = PAINT.format(name="showing").replace("PaintModel", "PaintModel\n  delay_s: 0.7")
    text = text.replace("tests.painters.PaintModel", "tests.serve.models.ShowingModel")
    text = text.replace("  delay_s: 0.0\n", "")
    (live_server.folder / "conf/model/showing.yaml").write_text(text, encoding="utf-8")
    stream = client.images.generate(
        model="showing", prompt="a fox", n=2, stream=True, partial_images=2, extra_body={"seed": 1}
    )
    events = list(stream)
    completed = {e.image_id: e for e in events if e.type == "image_generation.completed"}
    partial = [e for e in events if e.type == "image_generation.partial_image"]
    assert len(completed) == 2
    assert len(partial) + len(completed) == len(events)
    assert {event.image_id for event in partial} == set(completed)
    for event in partial:
        assert events.index(event) < events.index(completed[event.image_id])
        assert event.partial_image_index in (0, 1)
        assert event.size == "32x32"
        whole = np.asarray(png(completed[event.image_id].b64_json))
        shown = np.asarray(png(event.b64_json))
        assert any((shown == whole // (4 - step)).all() for step in (1, 2))


@pytest.mark.parametrize(
    ("style", "drawn_in"), [("noto", "noto"), ("vivid", "none"), (None, "none")]
)
def test_a_style_is_one_of_ours_and_openais_own_words_are_none(
    style: str | None, drawn_in: str
) -> None:
    asked = read_request({"model": "paint", "prompt": "x", "style": style, "quality": "high"})
    assert asked.wish["style"] == drawn_in
    assert asked.wish["params"] == {}


def test_a_size_that_the_model_does_not_have_is_not_heeded(client: Any) -> None:
    answer = client.images.generate(
        model="paint", prompt="a fox", size="1024x1024", extra_body={"seed": 2}, quality="high"
    )
    assert answer.size == "32x32"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": ""}, "prompt"),
        ({"n": 0}, "n:"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"n": 1000}, "n:"),
        ({"size": "big"}, "size"),
        ({"response_format": "jpeg"}, "response_format"),
        ({"output_format": "webp"}, "png"),
        ({"extra_body": {"seed": -1}}, "seed"),
        ({"extra_body": {"temprature": 1}}, "temperature"),
        ({"extra_body": {"temperature": 99}}, "temperature"),
        ({"extra_body": {"runs_dir": "/tmp"}}, "runs_dir"),
        ({"extra_body": {"model.path": "/tmp"}}, "model.path"),
        ({"extra_body": {"then": "upscale"}}, "then"),
        ({"style": "no such"}, "style"),
    ],
)
def test_a_mistake_is_explained_as_openai_does(
    client: Any, fields: dict[str, Any], words: str
) -> None:
    asked = {"model": "paint", "prompt": "a fox", **fields}
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**asked)
    assert words in caught.value.body["message"]
    assert caught.value.body["type"] == "invalid_request_error"


def test_an_unknown_model_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.images.generate(model="dall-e-3", prompt="a fox")


def test_what_cannot_be_drawn_is_an_error_and_not_asked_again(
    client: Any, live_server: Running
) -> None:
    file = live_server.folder / "conf/model/broken.yaml"
    paint = (live_server.folder / "conf/model/paint.yaml").read_text()
    file.write_text(paint.replace('fails_on: ""', 'fails_on: "fox"'))
    with pytest.raises(openai.UnprocessableEntityError, match="cannot be painted"):
        client.images.generate(model="broken", prompt="a fox", extra_body={"seed": 77})
    stream = client.images.generate(
        model="broken", prompt="a fox", stream=True, extra_body={"seed": 77}
    )
    with pytest.raises(openai.APIError, match="cannot be painted"):
        list(stream)


def test_fields_that_a_hosted_model_has_are_its_parameters() -> None:
    body = {"model": "gpt_image_2", "prompt": "x", "size": "1024x1536", "quality": "low"}
    asked = read_request(body)
    assert asked.wish["params"] == {"size": "1024x1536", "quality": "low"}
    assert asked.size is None
    other = read_request({**body, "model": "sdxl"})
    assert other.wish["params"] == {}
    assert other.size == (1024, 1536)


def test_the_server_loads_neither_torch_nor_pandas(client: Any, live_server: Running) -> None:
    """Whatever it was asked before; children draw."""
    maps = Path(f"/proc/{live_server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc on this system")
    loaded = maps.read_text()
    assert "pyarrow" in loaded, "it has read rows"
    assert "/torch/" not in loaded
    assert "/pandas/" not in loaded
