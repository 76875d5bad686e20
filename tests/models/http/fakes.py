"""Small servers on this machine that speak each API, with faults on demand.

Written from the documented protocols. Each counts what it would bill. By hand:
`python -m tests.models.http.fakes openai 8001 --delay 0.5 --faults 20`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import json
import os
import random
import re
import socket
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

FAULTS = (
    "429",  # without Retry-After
    "429 later",  # with Retry-After
    "500",
    "slow",  # the body comes in drops
    "cut",  # drawn and billed, and the connection breaks in the middle of the body
    "json",  # drawn and billed, and the body is no JSON
    "size",  # drawn and billed in another size
    "dead",  # the socket closes without an answer, nothing is billed
)


def picture(*content: Any, size: tuple[int, int]) -> bytes:
    """Return a PNG whose color hashes the content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    file = io.BytesIO()
    Image.new("RGB", size, (digest[0] | 1, digest[1], digest[2])).save(file, "PNG")
    return file.getvalue()


class Fake(ABC):
    """A server on a port of its own; `faults` are met by drawing requests, by their number."""

    def __init__(
        self,
        faults: Mapping[int, str] | None = None,
        port: int = 0,
        delay_s: float = 0.0,
        key: str | None = None,
    ) -> None:
        self.faults, self.delay_s, self.key = dict(faults or {}), delay_s, key
        self.num_asked = 0  # drawing requests
        self.billed: list[tuple[str, int | None]] = []  # prompt and seed of each image that is paid
        self.seen: list[tuple[str, dict[str, str], Any]] = []  # path, headers and body
        self.most_in_flight = self._in_flight = 0
        self.price_usd = 0.0  # of an image, for `spent_usd`
        self.lock = threading.RLock()
        self.port = port
        self.sockets: set[socket.socket] = set()
        self._let_go: Callable[[], object] = lambda: None
        self.start()

    def start(self) -> None:
        """Listen; after `stop`, on the same port."""
        handler = type("Handler", (_Handler,), {"fake": self})
        self._let_go()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        serve = lambda: self._server.serve_forever(0.01)  # noqa: E731
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and refuse new ones; the port stays this server's."""
        self._server.shutdown()
        self._server.server_close()
        held = socket.socket()  # bound, not listening: no other test gets the port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", self.port))
        self._let_go = weakref.finalize(self, os.close, held.detach())
        for one in list(self.sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spent_usd(self) -> float:
        """What the images drawn so far are billed with."""
        return len(self.billed) * self.price_usd

    @abstractmethod
    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        """Return the answer to a request that has passed the door."""

    @abstractmethod
    def is_drawing(self, method: str, path: str) -> bool:
        """Tell whether a request asks for an image: those meet the faults."""

    def bill(self, prompt: str, seed: int | None) -> None:
        """Note an image that is paid."""
        with self.lock:
            self.billed.append((prompt, seed))


Answer = tuple[int, Any]  # status, and JSON or bytes


class _Handler(BaseHTTPRequestHandler):
    fake: Fake
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.fake.sockets.add(self.connection)

    def finish(self) -> None:
        self.fake.sockets.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._answer("GET", None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self._answer("POST", json.loads(body or b"null"))

    def _answer(self, method: str, body: Any) -> None:
        fake, headers = self.fake, {k.lower(): v for k, v in self.headers.items()}
        fault = None
        with fake.lock:
            fake.seen.append((self.path, headers, body))
            if fake.is_drawing(method, self.path):
                fault = fake.faults.get(fake.num_asked)
                fake.num_asked += 1
                fake._in_flight += 1
                fake.most_in_flight = max(fake.most_in_flight, fake._in_flight)
        try:
            self._meet(fault, method, headers, body)
        finally:
            if fake.is_drawing(method, self.path):
                with fake.lock:
                    fake._in_flight -= 1

    def _meet(self, fault: str | None, method: str, headers: dict[str, str], body: Any) -> None:
        fake = self.fake
        if fake.key is not None and headers.get("authorization") != f"Bearer {fake.key}":
            return self._send(401, {"error": {"message": "Incorrect API key provided"}})
        if fault in ("429", "429 later"):
            wait = {"Retry-After": "0.03"} if fault == "429 later" else {}
            return self._send(429, {"error": {"message": "slow down"}}, wait)
        if fault == "500":
            return self._send(500, {"error": {"message": "internal error"}})
        if fault == "dead":
            self.close_connection = True
            return None
        if fault == "size" and isinstance(body, dict):
            body = {**body, "size": "16x16", "width": 16, "height": 16, "fault": "size"}
        if fake.is_drawing(method, self.path):
            time.sleep(fake.delay_s)
        status, content = fake.answer(method, self.path, headers, body)
        if fault == "json":
            content = b"<html>a proxy says hello</html>"
        return self._send(status, content, is_cut=fault == "cut", is_slow=fault == "slow")

    def _send(
        self,
        status: int,
        content: Any,
        headers: Mapping[str, str] | None = None,
        is_cut: bool = False,
        is_slow: bool = False,
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            if 300 <= status < 400:
                headers = {"Location": content["location"]}
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if is_cut:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif is_slow:
                for start in range(0, len(data), 1 + len(data) // 8):
                    self.wfile.write(data[start : start + 1 + len(data) // 8])
                    self.wfile.flush()
                    time.sleep(0.01)
            else:
                self.wfile.write(data)
        except OSError:
            self.close_connection = True


class OpenAiFake(Fake):
    """POST /v1/images/generations; bills 100 tokens of output a picture."""

    takes_seed = False
    heeds_keys = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kept: dict[str, Answer] = {}
        super().__init__(*args, **kwargs)

    def is_drawing(self, method: str, path: str) -> bool:
        return path == "/v1/images/generations"

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        if not self.is_drawing(method, path):
            return 404, {"error": {"message": f"Invalid URL ({method} {path})"}}
        if "forbidden" in body["prompt"]:
            message = "Your request was rejected by the safety system."
            return 400, {"error": {"message": message, "code": "moderation_blocked"}}
        key = headers.get("idempotency-key", "")
        if self.heeds_keys and key in self.kept:
            return self.kept[key]
        seed = body.get("seed") if self.takes_seed else len(self.billed)
        self.bill(body["prompt"], body.get("seed"))
        size = tuple(map(int, body.get("size", "32x32").split("x")))
        image = picture(body["prompt"], seed, size=size)  # type: ignore[arg-type]
        reply = {
            "created": int(time.time()),
            "data": [{"b64_json": base64.b64encode(image).decode()}],
            "usage": {"input_tokens": 10, "output_tokens": 100, "total_tokens": 110},
        }
        self.kept[key] = (200, reply)
        return 200, reply


class ReplicateFake(Fake):
    """Predictions that take a few questions to end."""

    num_questions = 1  # until a prediction has ended
    has_time = False  # whether the first answer waits for the end

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.predictions: dict[str, dict[str, Any]] = {}
        self.questions: dict[str, int] = {}
        self.files: dict[str, bytes] = {}
        super().__init__(*args, **kwargs)

    def is_drawing(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/predictions")

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        with self.lock:
            if self.is_drawing(method, path):
                return 201, self._make(path, body)
            address = urlsplit(path)
            if address.path == "/v1/predictions":
                newest = list(self.predictions.values())[::-1]
                start = int(parse_qs(address.query).get("cursor", ["0"])[0])
                end = start + 100
                more = f"{self.url}/v1/predictions?cursor={end}" if end < len(newest) else None
                return 200, {"results": newest[start:end], "next": more, "previous": None}
            if path.startswith("/files/"):
                file = self.files.get(path)
                return (404, {"detail": "gone"}) if file is None else (200, file)
            prediction = self.predictions.get(path.rpartition("/")[2])
            if prediction is None:
                return 404, {"detail": "no such prediction"}
            self._go_on(prediction)
            return 200, prediction

    def _make(self, path: str, body: Any) -> dict[str, Any]:
        number, given = f"p{len(self.predictions)}", body["input"]
        found = re.fullmatch(r"/v1/models/(.+)/predictions", path)
        size = (16, 16) if body.get("fault") == "size" else (32, 32)
        self.bill(given["prompt"], given.get("seed"))
        self.files[f"/files/{number}.png"] = picture(given, size=size)
        made_at = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime())
        self.predictions[number] = {
            "id": number,
            "model": found[1] if found else "someone/else",
            "version": body.get("version", "hidden"),
            "input": given,
            "status": "starting",
            "output": None,
            "error": None,
            "created_at": made_at,
            "urls": {"get": f"{self.url}/v1/predictions/{number}"},
        }
        self.questions[number] = 0
        self._go_on(self.predictions[number], self.num_questions + 1 if self.has_time else 0)
        return dict(self.predictions[number])

    def _go_on(self, prediction: dict[str, Any], num_questions: int = 1) -> None:
        number = prediction["id"]
        self.questions[number] += num_questions
        if self.questions[number] < self.num_questions or prediction["status"] == "succeeded":
            return
        if "forbidden" in prediction["input"]["prompt"]:
            prediction.update(status="failed", error="NSFW content detected.")
            return
        prediction.update(
            status="succeeded",
            output=[f"{self.url}/files/{number}.png"],
            metrics={"predict_time": 2.0},
        )


class ComfyFake(Fake):
    """A queue of jobs that each take a few questions; answers from its cache as ComfyUI does."""

    num_questions = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}  # by prompt_id, in the queue or done
        self.cancelled: list[str] = []
        self.drawn: set[str] = set()  # workflows with their prefix
        self.files: dict[str, bytes] = {}
        super().__init__(*args, **kwargs)

    def is_drawing(self, method: str, path: str) -> bool:
        return method == "POST" and path == "/prompt"

    def forget(self) -> None:
        """Lose queue and history, as a restart does."""
        with self.lock:
            self.jobs.clear()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        with self.lock:
            address = urlsplit(path)
            if path == "/prompt":
                return self._queue(body)
            if path == "/queue" and method == "GET":
                waiting = [
                    [0, job, {}, {}, []] for job, one in self.jobs.items() if not one["done"]
                ]
                return 200, {"queue_running": waiting[:1], "queue_pending": waiting[1:]}
            if path in ("/queue", "/interrupt"):
                for job in body.get("delete", [body.get("prompt_id")]):
                    self.cancelled.append(job)
                    self.jobs.pop(job, None)
                return 200, b""
            if path.startswith("/history/"):
                return 200, self._history(path.rpartition("/")[2])
            if address.path == "/view":
                return 200, self.files[parse_qs(address.query)["filename"][0]]
            return 404, b"404: Not Found"

    def _queue(self, body: Any) -> Answer:
        nodes = body["prompt"]
        text = nodes["6"]["inputs"]["text"]
        if nodes["3"]["inputs"]["steps"] > 100:
            error = {"type": "prompt_outputs_failed_validation", "message": "Prompt has no outputs"}
            errors = {"3": {"errors": [{"details": "steps is larger than 100"}]}}
            return 400, {"error": error, "node_errors": errors}
        size = nodes["5"]["inputs"]["width"], nodes["5"]["inputs"]["height"]
        if body.get("fault") == "size":
            size = (16, 16)
        key = json.dumps(nodes, sort_keys=True)
        self.bill(text, nodes["3"]["inputs"]["seed"])
        self.jobs[body["prompt_id"]] = {
            "done": False,
            "asked": 0,
            "is_cached": key in self.drawn or not body.get("client_id"),
            "error": "CUDA out of memory" if "forbidden" in text else None,
            "image": picture(text, nodes["3"]["inputs"], size=size),
            "prefix": nodes["9"]["inputs"]["filename_prefix"].rpartition("/")[2],
        }
        self.drawn.add(key)
        return 200, {"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}}

    def _history(self, job: str) -> Any:
        found = self.jobs.get(job)
        if found is None:
            return {}
        found["asked"] += 1
        if found["asked"] < self.num_questions:
            return {}
        found["done"] = True
        if found["error"]:
            facts = {"node_id": "3", "node_type": "KSampler", "exception_message": found["error"]}
            messages = [["execution_start", {}], ["execution_error", facts]]
            status = {"status_str": "error", "completed": False, "messages": messages}
            return {job: {"outputs": {}, "status": status}}
        name = f"{found['prefix']}_00001_.png"
        self.files[name] = found["image"]
        image = {"filename": name, "subfolder": "promptlab", "type": "output"}
        outputs = {} if found["is_cached"] else {"9": {"images": [image]}}
        status = {"status_str": "success", "completed": True, "messages": []}
        return {job: {"outputs": outputs, "status": status}}


class A1111Fake(Fake):
    """POST /sdapi/v1/txt2img with one checkpoint loaded; a stubborn one keeps it."""

    checkpoint = "sd15"
    is_stubborn = False

    def is_drawing(self, method: str, path: str) -> bool:
        return path == "/sdapi/v1/txt2img"

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        if path == "/sdapi/v1/options" and not self.is_stubborn:
            self.checkpoint = body["sd_model_checkpoint"].partition(".")[0]
        if path in ("/sdapi/v1/options", "/sdapi/v1/interrupt"):
            return 200, {}
        if not self.is_drawing(method, path):
            return 404, {"detail": "Not Found"}
        self.bill(body["prompt"], body["seed"])
        drawn = {k: body[k] for k in ("prompt", "seed", "steps", "cfg_scale", "sampler_name")}
        image = picture(drawn, size=(body["width"], body["height"]))
        info = {
            "seed": body["seed"],
            "sd_model_name": self.checkpoint,
            "sd_model_hash": hashlib.sha256(self.checkpoint.encode()).hexdigest()[:10],
        }
        images = [base64.b64encode(image).decode()]
        return 200, {"images": images, "parameters": body, "info": json.dumps(info)}


WORKFLOW: Mapping[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 1,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 32, "height": 32, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"}},
}

FAKES: Mapping[str, Callable[..., Fake]] = {
    "openai": OpenAiFake,
    "replicate": ReplicateFake,
    "comfyui": ComfyFake,
    "a1111": A1111Fake,
}


def random_faults(num_requests: int, num_faults: int, seed: int) -> dict[int, str]:
    """Return faults at random places."""
    chance = random.Random(seed)
    places = chance.sample(range(num_requests), num_faults)
    return {place: chance.choice(FAULTS) for place in places}


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser()
    parser.add_argument("api", choices=FAKES)
    parser.add_argument("port", type=int)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--key")
    args = parser.parse_args()
    faults = random_faults(300, args.faults, 0)
    fake = FAKES[args.api](faults, args.port, args.delay, args.key)
    try:
        while True:
            time.sleep(5)
            print(f"{fake.num_asked} asked, {len(fake.billed)} billed", flush=True)
    except KeyboardInterrupt:
        fake.stop()


if __name__ == "__main__":
    main()
