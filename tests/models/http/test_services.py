"""Each API against a server that runs here: one contract, and what each has of its own."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter

import pytest

from promptlab import engine
from promptlab.errors import ConfigError, ModelError, ModelLostError, ParameterError
from promptlab.models import http
from promptlab.models.http.ledger import Ledger
from promptlab.models.http.model import HttpModel
from tests.models.http.conftest import SIZES, draw, make_requests, open_model
from tests.models.http.fakes import FAKES, FAULTS, OpenAiFake, ReplicateFake, random_faults

APIS = tuple(FAKES)
FREE = ("comfyui", "a1111")
LOSES = ("cut", "json", "dead")  # faults after which nobody can say what was billed


@pytest.mark.parametrize("api", APIS)
def test_every_request_is_answered_once_with_an_image_of_its_own(api, tmp_path):
    with FAKES[api]() as fake:
        model = open_model(api, fake, tmp_path)
        found = draw(model, make_requests(model, 6, **SIZES.get(api, {})))
    assert [result.error for result in found.values()] == [None] * 6
    assert len(fake.billed) == 6
    assert fake.most_in_flight <= model.server.concurrency
    size = (64, 64, 3) if api == "a1111" else (32, 32, 3)
    assert {result.pixels.shape for result in found.values()} == {size}
    cost = {result.cost_usd for result in found.values()}
    assert cost == ({None} if api in FREE else {0.00305} if api == "openai" else {None})


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("api", APIS)
def test_a_fault_loses_no_request_and_pays_none_twice(api, fault, tmp_path):
    with FAKES[api]({1: fault}) as fake:
        model = open_model(api, fake, tmp_path)
        quality = {"quality": "low"} if api == "openai" else {}
        found = draw(model, make_requests(model, 5, **SIZES.get(api, {}), **quality))
    failed = [result for result in found.values() if result.error]
    is_lost = api == "openai" and fault in LOSES
    if fault == "size" and api != "replicate":
        (result,) = failed
        assert "drew 16 × 16 px, asked for" in result.error
        assert result.cost_usd == (0.00305 if api == "openai" else None)
    elif is_lost:
        (result,) = failed
        assert "it may be billed. --retry-failed asks again" in result.error
        assert len(fake.billed) + (fault == "dead") == 5, "it is not sent again"
        assert model.ledger.spent_usd == pytest.approx(4 * 0.00305 + 0.02, abs=1e-4)
    else:
        assert not failed
    if api in ("openai", "replicate", "comfyui"):
        assert max(Counter(fake.billed).values()) == 1 or api == "openai"
        assert len(fake.billed) == 5 - (is_lost and fault == "dead")


@pytest.mark.parametrize("api", APIS)
def test_a_server_that_restarts_in_the_middle_delays_and_loses_nothing(api, tmp_path, caplog):
    caplog.set_level(logging.INFO, "promptlab")
    fake = FAKES[api]()
    model = open_model(api, fake, tmp_path, price=0)
    requests = make_requests(model, 12, **SIZES.get(api, {}))
    drawing = engine.draw_all(model, requests)
    fake.delay_s = 0.02
    results = [next(drawing) for _ in range(2)]
    fake.stop()
    back = threading.Timer(0.3, fake.start)
    back.start()
    results += drawing
    fake.stop()
    assert len({result.request.image_id for result in results}) == len(results) == 12
    assert [result.error for result in results if result.error] == []


def test_a_server_that_is_gone_ends_the_sweep_with_what_was_drawn(tmp_path, caplog):
    fake = OpenAiFake()
    waits = {"patience_s": 0.2, "first_wait_s": 0.1}  # patience ends before anybody's tries do
    model = open_model("openai", fake, tmp_path, price=0, **waits)
    drawing = engine.draw_all(model, make_requests(model, 50, size="32x32"))
    fake.delay_s = 0.05
    results = [next(drawing) for _ in range(3)]
    fake.stop()
    with pytest.raises(ModelLostError, match=r"127.0.0.1:\d+: no answer for"):
        results += drawing
    assert all(result.error is None for result in results)
    assert len(results) < 50
    assert "fails request after request" in caplog.text


@pytest.mark.parametrize("api", ["openai", "replicate", "comfyui"])  # A1111 refuses no prompt
def test_a_request_that_the_server_refuses_fails_alone_and_is_asked_once(api, tmp_path):
    with FAKES[api]() as fake:
        model = open_model(api, fake, tmp_path)
        given = SIZES.get(api, {})
        requests = make_requests(model, 3, **given) + make_requests(model, 1, "forbidden", **given)
        results = {r.request.prompt: r.error for r in engine.draw_all(model, requests)}
        assert fake.num_asked == 4
    assert results["a fox"] is None
    reasons = {
        "openai": "rejected by the safety",
        "replicate": "NSFW content",
        "comfyui": "KSampler",
    }
    assert reasons[api] in results["forbidden"]


@pytest.mark.parametrize("api", APIS)
def test_a_model_that_is_interrupted_leaves_nothing_behind_that_costs(api, tmp_path):
    with FAKES[api](delay_s=0.02) as fake:
        model = open_model(api, fake, tmp_path)
        model.load()
        drawing = model.draw(make_requests(model, 40, **SIZES.get(api, {})))
        next(drawing)
        fake.num_questions = 1000  # what is under way now takes long
        time.sleep(0.3)
        drawing.close()  # as Ctrl-C does
        num_asked = fake.num_asked
        model.unload()
        time.sleep(0.1)
        assert fake.num_asked == num_asked < 40
        if api == "comfyui":
            assert len(set(fake.cancelled)) == 2
            waiting = [job for job, one in fake.jobs.items() if not one["done"]]
            assert waiting == [], "the queue is empty"


def test_what_is_paid_for_is_waited_for_on_ctrl_c_and_found_by_the_next_session(tmp_path):
    with OpenAiFake(delay_s=0.2) as fake:
        model = open_model("openai", fake, tmp_path)
        model.use_ledger(Ledger(tmp_path / "requests"))
        requests = make_requests(model, 12, size="32x32")
        model.load()
        drawing = model.draw(requests)
        first = next(drawing)
        drawing.close()  # Ctrl-C: up to three more are in flight
        model.unload()
        num_billed = len(fake.billed)
        assert 1 < num_billed <= 8
        again = open_model("openai", fake, tmp_path)
        ledger = Ledger(tmp_path / "requests")
        ledger.read()
        again.use_ledger(ledger)
        left = [request for request in requests if request != first.request]
        results = list(engine.draw_all(again, left))
    assert [result.error for result in results] == [None] * 11
    assert len(fake.billed) == 12, "nothing is paid twice"


def test_a_prediction_whose_id_never_came_is_found_by_its_input(tmp_path):
    with ReplicateFake({0: "cut"}) as fake:
        model = open_model("replicate", fake, tmp_path)
        found = draw(model, make_requests(model, 1))
    assert found[0].error is None
    assert len(fake.billed) == 1


def test_a_server_that_heeds_idempotency_keys_is_asked_again_with_the_same_one(tmp_path):
    with OpenAiFake({0: "cut", 1: "json"}) as fake:
        fake.heeds_keys = True
        model = open_model("openai", fake, tmp_path, is_idempotent=True)
        found = draw(model, make_requests(model, 1, size="32x32"))
    assert found[0].error is None
    assert len(fake.billed) == 1
    assert len({headers["idempotency-key"] for _, headers, _ in fake.seen}) == 1
    assert len(fake.seen) == 3


def test_a_budget_holds_with_eight_in_flight(tmp_path):
    with OpenAiFake(delay_s=0.01) as fake:
        model = open_model("openai", fake, tmp_path, concurrency=8, price=0.01)
        model.use_ledger(Ledger(budget_usd=0.105))
        model.load()
        results = []
        with pytest.raises(ModelLostError, match=r"the budget of \$0.10 would be passed"):
            results += model.draw(make_requests(model, 40, size="32x32"))
        model.unload()
    assert len(fake.billed) == 10
    assert model.ledger.spent_usd == pytest.approx(0.1)


def test_an_estimate_that_is_too_low_is_corrected_by_the_first_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    prices = "{image: {low: 0.001}, text_tokens: 5, output_tokens: 30}"  # an answer costs 0.00305
    (tmp_path / "conf/prices.yaml").write_text(f"models: {{gpt-image-2: {prices}}}")
    with OpenAiFake() as fake:
        model = open_model("openai", fake, tmp_path, concurrency=2)
        model.use_ledger(Ledger(budget_usd=0.05))
        model.load()
        with pytest.raises(ModelLostError, match="budget"):
            list(model.draw(make_requests(model, 40, size="32x32", quality="low")))
        model.unload()
    assert len(fake.billed) * 0.00305 <= 0.05
    assert len(fake.billed) >= 15


@pytest.mark.parametrize("api", APIS)
def test_identity_counts_what_is_asked_for_and_not_how(api, tmp_path):
    with FAKES[api]() as fake:
        one = open_model(api, fake, tmp_path)
        same = open_model(api, fake, tmp_path, concurrency=7, price=0.5, read_s=9)
        assert one.fingerprint == same.fingerprint
        assert len(one.fingerprint) == 16
        assert not one.is_deterministic
        other = {
            "openai": {"model": "gpt-image-2.5-flare"},
            "replicate": {"version": "abc"},
            "a1111": {"checkpoint": "sdxl"},
            "comfyui": {"bindings": {"prompt": "7.text"}},
        }
        changed = open_model(api, fake, tmp_path, **other[api])
        assert changed.fingerprint != one.fingerprint


def test_a_server_with_seeds_may_promise_the_same_bytes_and_one_without_may_not(tmp_path):
    with OpenAiFake() as fake:
        promise = {"is_deterministic": True}
        assert not open_model("openai", fake, tmp_path, **promise).is_deterministic
        fields = {"seed": "rng_seed", "size": "size"}
        assert open_model("openai", fake, tmp_path, extra=fields, **promise).is_deterministic


def test_a_compatible_server_gets_each_parameter_in_the_field_that_extra_names(tmp_path):
    extra = {"seed": "rng_seed", "size": "size", "steps": "options.steps", "style": "style"}
    with OpenAiFake() as fake:
        constants = {"response_format": "b64_json", "options": {"quick": True}}
        model = open_model("openai", fake, tmp_path, extra=extra, constants=constants)
        draw(model, make_requests(model, 1, size="32x32", steps="8.0"))
        assert fake.seen[0][2] == {
            "model": "gpt-image-2",
            "prompt": "a fox",
            "n": 1,
            "response_format": "b64_json",
            "options": {"quick": True, "steps": 8},
            "rng_seed": 0,
            "size": "32x32",
        }
        with pytest.raises(ParameterError, match="no parameter quality"):
            make_requests(model, 1, quality="low")


class AnotherOpenAi(OpenAiFake):
    """Answers with whatever it likes."""

    further: dict = {}  # noqa: RUF012

    def answer(self, method, path, headers, body):
        status, reply = super().answer(method, path, headers, body)
        return status, {**reply, **self.further}


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"model": "dall-e-2"}, "drew with dall-e-2, asked for gpt-image-2"),
        ({"quality": "high"}, "drew quality high, asked for low"),
        ({"output_format": "jpeg"}, "drew output_format jpeg, asked for png"),
        ({"data": []}, "sent 0 images"),
        ({"data": [{"b64_json": "bm8gaW1hZ2U="}]}, "no image that can be read"),
    ],
)
def test_another_model_quality_or_format_is_a_failed_row_that_was_paid(further, message, tmp_path):
    with AnotherOpenAi() as fake:
        fake.further = further
        model = open_model("openai", fake, tmp_path)
        given = {"size": "32x32", "quality": "low", "output_format": "png"}
        found = draw(model, make_requests(model, 1, **given))
    assert message in found[0].error
    assert found[0].cost_usd == 0.00305
    assert fake.num_asked == 1


@pytest.mark.parametrize("reply", [[], "text", {"data": "no"}, {"data": [None]}, None])
def test_json_of_another_shape_is_a_lost_answer_and_no_crash(reply, tmp_path):
    class Odd(OpenAiFake):
        def answer(self, method, path, headers, body):
            return 200, reply

    with Odd() as fake:
        model = open_model("openai", fake, tmp_path)
        found = draw(model, make_requests(model, 1, size="32x32"))
    assert found[0].error


def test_every_input_of_a_workflow_is_a_parameter_in_its_own_kind(tmp_path):
    with FAKES["comfyui"]() as fake:
        model = open_model("comfyui", fake, tmp_path)
        names = set(model.parameters)
        assert {"3.steps", "3.cfg", "3.sampler_name", "4.ckpt_name", "7.text", "width"} <= names
        assert not {"6.text", "3.seed", "prompt", "seed", "3.model"} & names
        given = {"3.cfg": "4.50", "3.steps": 8.0, "7.text": "10", "width": 48}
        draw(model, make_requests(model, 1, **given))
        nodes = fake.seen[[path for path, _, _ in fake.seen].index("/prompt")][2]["prompt"]
        assert nodes["3"]["inputs"]["cfg"] == 4.5
        assert nodes["3"]["inputs"]["steps"] == 8
        assert isinstance(nodes["3"]["inputs"]["steps"], int)
        assert nodes["7"]["inputs"]["text"] == "10"
        assert nodes["3"]["inputs"]["model"] == ["4", 0]
        assert nodes["6"]["inputs"]["text"] == "a fox"
        assert nodes["9"]["inputs"]["filename_prefix"].startswith("promptlab/")
        with pytest.raises(ParameterError, match="expected a number"):
            make_requests(model, 1, **{"3.cfg": "much"})
        found = draw(model, make_requests(model, 1, **{"3.steps": 500}))
        assert "steps is larger than 100" in found[0].error


def test_equal_jobs_are_not_answered_from_the_cache_without_a_file(tmp_path):
    with FAKES["comfyui"]() as fake:
        model = open_model("comfyui", fake, tmp_path)
        for _ in range(2):
            assert draw(model, make_requests(model, 1))[0].error is None
        fake.drawn = type(
            "All", (), {"__contains__": lambda s, k: True, "add": lambda s, k: None}
        )()
        assert "End the workflow in SaveImage" in draw(model, make_requests(model, 1))[0].error


def test_a_restarted_comfyui_that_forgot_its_queue_is_given_the_job_again(tmp_path):
    with FAKES["comfyui"]() as fake:
        fake.num_questions = 10_000
        model = open_model("comfyui", fake, tmp_path)
        requests = make_requests(model, 1)

        def restart():
            while not fake.billed:
                time.sleep(0.01)
            fake.num_questions = 1
            fake.forget()

        threading.Thread(target=restart, daemon=True).start()
        assert draw(model, requests)[0].error is None
        assert len(fake.billed) == 2


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"bindings": {"prompt": "6.words"}}, "bindings.prompt=6.words: the workflow has no such"),
        ({"bindings": {"seed": "3.seed"}}, "bindings has no prompt"),
        ({"output": "99"}, "name the node whose image is taken"),
        ({"workflow": "nowhere.json"}, "Expected a workflow in API format"),
        ({"workflow": None}, "model.workflow is not set"),
    ],
)
def test_a_workflow_that_cannot_be_bound_is_refused_with_what_it_has(further, message, tmp_path):
    with FAKES["comfyui"]() as fake, pytest.raises(ConfigError, match=message):
        open_model("comfyui", fake, tmp_path, **further)


def test_a_workflow_as_the_editor_saves_it_is_refused(tmp_path):
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps({"nodes": [], "links": []}))
    with pytest.raises(ConfigError, match="Export"):
        http.open_comfyui(str(file), {"prompt": "6.text"})


@pytest.mark.parametrize("checkpoint", ["sdxl", "sdxl.safetensors", "xl/sdxl.safetensors"])
def test_the_checkpoint_is_loaded_and_checked_in_every_answer(checkpoint, tmp_path):
    with FAKES["a1111"]() as fake:
        fake.checkpoint = "sdxl"
        fake.is_stubborn = True
        model = open_model("a1111", fake, tmp_path, checkpoint=checkpoint)
        given = SIZES["a1111"]
        assert draw(model, make_requests(model, 1, **given))[0].error is None
        assert fake.seen[0][2] == {"sd_model_checkpoint": checkpoint}
        fake.checkpoint = "sd15"
        error = draw(model, make_requests(model, 1, **given))[0].error
        assert f"drew, asked for {checkpoint}" in error
        hashed = open_model("a1111", fake, tmp_path, checkpoint="sd15.ckpt [0123456789]")
        assert (
            "asked for sd15.ckpt [0123456789]"
            in draw(hashed, make_requests(hashed, 1, **given))[0].error
        )


def test_another_version_than_the_pinned_one_is_a_failed_row(tmp_path):
    class Newer(ReplicateFake):
        def _make(self, path, body):
            assert path == "/v1/predictions"
            return super()._make(path, {**body, "version": "newer"})

    with Newer() as fake:
        model = open_model("replicate", fake, tmp_path, version="pinned")
        found = draw(model, make_requests(model, 1))
    assert "version newer drew, asked for pinned" in found[0].error


def test_a_server_that_is_not_there_is_said_before_anything_is_drawn(tmp_path):
    with FAKES["comfyui"]() as fake:
        pass
    model = open_model("comfyui", fake, tmp_path)
    with pytest.raises(ModelError, match=r"cannot be asked: .* Start the server"):
        model.load()


@pytest.mark.parametrize(
    "api",
    ["openai", *(pytest.param(api, marks=pytest.mark.slow) for api in APIS if api != "openai")],
)
def test_twenty_random_faults_in_three_hundred_requests(api, tmp_path):
    with FAKES[api](random_faults(300, 20, APIS.index(api))) as fake:
        model: HttpModel = open_model(api, fake, tmp_path, concurrency=8, first_wait_s=0.002)
        found = draw(model, make_requests(model, 300, **SIZES.get(api, {})))
    errors = [result.error for result in found.values() if result.error]
    assert len(found) == 300
    assert len(errors) < 20
    if api in ("replicate", "comfyui"):
        assert set(Counter(fake.billed).values()) == {1}
    drawn = sum(result.cost_usd or 0 for result in found.values() if result.pixels is not None)
    assert drawn <= model.ledger.spent_usd + 1e-9
