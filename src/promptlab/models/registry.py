"""From a model's config to the model: any `_target_` with the model protocol.

Takes the `model:` node as a plain dict, returns a Model that is not loaded yet. Knows no
particular model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, cast

from promptlab.errors import ConfigError, ModelError, PromptlabError
from promptlab.models.protocol import Model

_MEMBERS = (
    "name",
    "fingerprint",
    "image_size",
    "dtype",
    "device",
    "parameters",
    "is_deterministic",
    "load",
    "draw",
    "unload",
)


def open_model(node: Mapping[str, Any] | None) -> Model:
    """Return the model that a config node names; its module may lie in the working directory."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not node or not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(
            "No model is chosen: expected model=NAME, a file of conf/model with "
            f"`model: {{_target_: …}}`, got model={node!r}. `promptlab models` lists them."
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own model beside their conf/
    target = node["_target_"]
    try:
        model = instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, PromptlabError):
            raise cause from None
        reason = cause if cause is not None else error
        raise ModelError(
            f"The model's _target_ {target} cannot be opened: {type(reason).__name__}: {reason}"
        ) from error
    missing = [name for name in _MEMBERS if name not in dir(model)]
    if missing:
        raise ModelError(
            f"{target} is no model: it lacks {', '.join(missing)}. "
            "promptlab.models.protocol.Model says what each is for."
        )
    return model


def open_model_for_plan(node: Mapping[str, Any] | None) -> Model:
    """Return a model to plan with: one whose weights are not here yet is not downloaded for it."""
    model = open_model(node)
    return model if getattr(model, "is_downloaded", True) else cast(Model, _NotDownloaded(model))


class _NotDownloaded:
    """A model without the fingerprint that only its weights could tell."""

    fingerprint = "0" * 16

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
