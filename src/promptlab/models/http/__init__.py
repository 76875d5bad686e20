"""Hosted models and running servers: OpenAI's API, Replicate, ComfyUI, A1111.

What a config's `_target_` names. Light: nothing is asked of a server before the first request.
Each takes further keys for its server: see `client.Server`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptlab.errors import ConfigError
from promptlab.models.http.client import Server
from promptlab.models.http.model import HttpModel
from promptlab.models.http.prices import read_prices
from promptlab.models.http.service import Fields

__all__ = ["HttpModel", "open_a1111", "open_comfyui", "open_openai", "open_replicate"]


def open_openai(
    model: str | None,
    name: str | None = None,
    base_url: str = "https://api.openai.com/v1",
    key_variable: str | None = "OPENAI_API_KEY",
    extra: Mapping[str, str | None] | None = None,
    constants: Mapping[str, Any] | None = None,
    is_idempotent: bool = False,
    is_deterministic: bool = False,
    **server: Any,
) -> HttpModel:
    """Return a model behind POST /images/generations.

    `extra` says which field of the request each parameter of a sweep goes to, `constants` are
    fields that every request has; `is_idempotent`: the server heeds Idempotency-Key.
    """
    from promptlab.models.http.openai import OpenAiService

    model = _given("model", model, "the model's name at the server, such as gpt-image-2")
    asked = Server(base_url, key_variable, **server)
    service = OpenAiService(
        asked.url,
        model,
        Fields(extra or {}, constants or {}),
        read_prices().of(model),
        is_idempotent=is_idempotent,
    )
    return HttpModel(name or model, service, asked, is_deterministic=is_deterministic)


def open_replicate(
    model: str | None,
    version: str | None = None,
    name: str | None = None,
    base_url: str = "https://api.replicate.com/v1",
    key_variable: str | None = "REPLICATE_API_TOKEN",
    extra: Mapping[str, str | None] | None = None,
    constants: Mapping[str, Any] | None = None,
    **server: Any,
) -> HttpModel:
    """Return a model of Replicate; `version` is the hash of its weights, None for official ones.

    `extra` says which input each parameter of a sweep goes to.
    """
    from promptlab.models.http.replicate import ReplicateService

    model = _given("model", model, "OWNER/NAME, such as black-forest-labs/flux-schnell")
    asked = Server(base_url, key_variable, **server)
    fields = Fields(extra or {}, constants or {})
    service = ReplicateService(asked.url, model, version, fields, read_prices().of(model))
    return HttpModel(name or model.rpartition("/")[2], service, asked)


def open_comfyui(
    workflow: str | None,
    bindings: Mapping[str, str] | None = None,
    output: str | None = None,
    name: str = "comfyui",
    base_url: str = "http://127.0.0.1:8188",
    key_variable: str | None = None,
    **server: Any,
) -> HttpModel:
    """Return a workflow of ComfyUI; `bindings` name its inputs, `output` the node of its image."""
    from promptlab.models.http.comfyui import ComfyUiService, Workflow

    path = _given("workflow", workflow, "a file that ComfyUI's Export (API) wrote")
    asked = Server(base_url, key_variable, **{"concurrency": 2, **server})
    return HttpModel(name, ComfyUiService(asked.url, Workflow(path, bindings or {}, output)), asked)


def open_a1111(
    checkpoint: str | None = None,
    name: str = "a1111",
    base_url: str = "http://127.0.0.1:7860",
    key_variable: str | None = None,
    extra: Mapping[str, str | None] | None = None,
    constants: Mapping[str, Any] | None = None,
    **server: Any,
) -> HttpModel:
    """Return a checkpoint of A1111, Forge or sd-server; None: the one that the server has."""
    from promptlab.models.http.a1111 import A1111Service

    asked = Server(base_url, key_variable, **{"concurrency": 1, **server})
    service = A1111Service(asked.url, checkpoint, Fields(extra or {}, constants or {}))
    return HttpModel(name, service, asked)


def _given(key: str, value: str | None, what: str) -> str:
    if not value:
        raise ConfigError(f"model.{key} is not set: expected {what}.")
    return str(value)
