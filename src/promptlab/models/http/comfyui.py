"""ComfyUI's own API: the user's workflow, of which every input of every node is a parameter.

Takes the workflow in API format and bindings (`prompt: 6.text`, `seed: 3.seed`). Each request is a
job under an id of ours, so that its answer is found after a lost connection or a kill, and is
cancelled on Ctrl-C. Each saves under a prefix of its own: equal jobs would be answered from the
cache, without a file.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from promptlab.errors import ConfigError
from promptlab.models.http.client import Client
from promptlab.models.http.service import Answer, CallError, RefusedError, Sent, Value
from promptlab.models.protocol import Parameter
from promptlab.records import Request, Scalar

POLL_S, MAX_POLL_S = 0.2, 2.0  # between two questions after a job
MAX_MISSES = 3  # times that a job is neither queued nor done before it is lost
OUTPUTS = ("SaveImage", "PreviewImage")  # classes of nodes whose picture is taken


class Workflow:
    """A workflow in API format, and which input each parameter sets."""

    def __init__(self, path: str, bindings: Mapping[str, str], output: str | None) -> None:
        try:
            self.nodes: dict[str, Any] = json.loads(Path(path).expanduser().read_text("utf-8"))
            if not all("class_type" in node and "inputs" in node for node in self.nodes.values()):
                raise ValueError("a node lacks class_type or inputs")
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"model.workflow={path}: {error}. Expected a workflow in API format (in ComfyUI: "
                "Workflow → Export (API))."
            ) from None
        self.bindings = dict(bindings)
        for name, place in self.bindings.items():
            if place not in self._inputs:
                raise ConfigError(
                    f"model.bindings.{name}={place}: the workflow has no such input. It has: "
                    f"{', '.join(self._inputs)}."
                )
        if "prompt" not in self.bindings:
            raise ConfigError(
                "model.bindings has no prompt: name the input that takes it, such as "
                f"prompt: 6.text. The inputs are: {', '.join(self._inputs)}."
            )
        nodes = {k: v for k, v in self.nodes.items() if v["class_type"] in OUTPUTS}
        self.output = str(output) if output is not None else next(iter(nodes), "")
        if self.output not in self.nodes or (output is None and len(nodes) != 1):
            found = ", ".join(nodes) or "none"
            raise ConfigError(f"model.output: name the node whose image is taken ({found}).")

    @property
    def _inputs(self) -> dict[str, Scalar]:
        """Every input that is no link, by NODE.INPUT."""
        return {
            f"{node_id}.{name}": value
            for node_id, node in self.nodes.items()
            for name, value in node["inputs"].items()
            if isinstance(value, str | int | float | bool)
        }

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every input, those that are bound under their own names."""
        name_from_place = {place: name for name, place in self.bindings.items()}
        named = {name_from_place.get(place, place): value for place, value in self._inputs.items()}
        return {
            name: _parameter(value, str(self.bindings.get(name, "")))
            for name, value in named.items()
            if name not in ("prompt", "seed")
        }

    def of(self, request: Request, prefix: str) -> dict[str, Any]:
        """Return the workflow of one request; a link that an input had is not touched."""
        nodes = copy.deepcopy(self.nodes)
        given = {**request.params, "prompt": request.prompt, "seed": request.seed}
        for name, value in given.items():
            node_id, _, key = self.bindings.get(name, name).rpartition(".")
            if node_id:  # a seed that goes nowhere has no node
                nodes[node_id]["inputs"][key] = value
        for node in nodes.values():
            if "filename_prefix" in node["inputs"]:
                node["inputs"]["filename_prefix"] = prefix
        return nodes


class ComfyUiService:
    """One workflow on one server."""

    is_idempotent = False
    can_find = True

    def __init__(self, url: str, workflow: Workflow) -> None:
        self.workflow = workflow
        self.is_seeded = "seed" in workflow.bindings
        self.parameters: Mapping[str, Parameter] = workflow.parameters
        size = [self.parameters[n].default for n in ("width", "height") if n in self.parameters]
        self.image_size = (int(size[0] or 0), int(size[1] or 0)) if len(size) == 2 else (1024, 1024)
        self.identity: Mapping[str, Any] = {
            "api": "comfyui",
            "url": url,
            "workflow": workflow.nodes,
            "bindings": workflow.bindings,
            "output": workflow.output,
        }

    def price_of(self, request: Request) -> float | None:
        """Return None: the server is one's own; nodes that cost want model.price."""
        return None

    def begin(self, client: Client) -> None:
        """Ask whether the server is there."""
        client.get("/queue")

    def draw(self, client: Client, request: Request, sent: Sent) -> Answer:
        """Queue a job and wait for its end."""
        prefix = f"promptlab/{request.image_id}-{sent.key[:8]}"
        job = {
            "prompt": self.workflow.of(request, prefix),
            "client_id": sent.key,
            "prompt_id": sent.key,
        }
        reply = client.post("/prompt", job)
        sent.is_known_as(str(reply["prompt_id"]))  # servers before 0.3.48 choose their own
        found = self._ended(client, str(sent.remote_id))
        if found is None:
            raise CallError("broken", "ComfyUI lost the job: was it restarted?")
        return found

    def find(self, client: Client, request: Request, sent: Sent) -> Answer | None:
        """Return the answer of a job that was queued before, None if the server lost it."""
        return self._ended(client, sent.remote_id or sent.key)

    def cancel(self, client: Client, sent: Sent) -> None:
        """Take a job out of the queue, or interrupt it."""
        job = sent.remote_id or sent.key
        client.post("/queue", {"delete": [job]})
        client.post("/interrupt", {"prompt_id": job})

    def _ended(self, client: Client, job: str) -> Answer | None:
        """Wait for a job and return its image, None if the server does not know it."""
        wait_s, num_misses = POLL_S, 0
        while True:
            entry = (client.get(f"/history/{job}") or {}).get(job)
            if entry is not None and entry.get("status", {}).get("completed") is not None:
                return self._answer(client, entry)
            queued = client.get("/queue") or {}
            jobs = [*queued.get("queue_running", ()), *queued.get("queue_pending", ())]
            num_misses = 0 if any(one[1] == job for one in jobs) else num_misses + 1
            if num_misses == MAX_MISSES:
                return None
            client.wait(wait_s * client.server.first_wait_s)
            wait_s = min(MAX_POLL_S, 1.3 * wait_s)

    def _answer(self, client: Client, entry: Mapping[str, Any]) -> Answer:
        status = entry.get("status", {})
        if status.get("status_str") != "success":
            raise RefusedError(f"ComfyUI: {_describe_error(status.get('messages', ()))}")
        images = entry.get("outputs", {}).get(self.workflow.output, {}).get("images", ())
        if len(images) != 1:
            raise RefusedError(
                f"node {self.workflow.output} gave {len(images)} images, expected one a job"
                + ("" if images else ": answered from the cache? End the workflow in SaveImage")
            )
        place = {key: images[0].get(key, "") for key in ("filename", "subfolder", "type")}
        return Answer(client.fetch(f"{client.server.url}/view?{urlencode(place)}"))


def _parameter(value: Scalar, description: str) -> Parameter:
    if isinstance(value, bool | str):
        return Parameter(type(value), value, description=description)
    number = Value(float, None)
    return Value(float, number.normalize("", value), description=description)


def _describe_error(messages: Any) -> str:
    for kind, facts in messages:
        if kind == "execution_error":
            where = f"{facts.get('node_type')} (node {facts.get('node_id')})"
            return f"{where}: {facts.get('exception_message', '').strip()}"
        if kind == "execution_interrupted":
            return "the job was interrupted"
    return "the job failed"
