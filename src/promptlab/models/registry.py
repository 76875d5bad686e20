"""From a model's config to the model: any `_target_` with the model protocol.

Takes the `model:` node as a plain dict, returns a Model that is not loaded yet. Knows no
particular model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptlab.errors import ConfigError, ModelError, PromptlabError
from promptlab.models.complete import complete, missing_members, without_download
from promptlab.models.protocol import CompleteModel


def open_model(node: Mapping[str, Any] | None) -> CompleteModel:
    """Return the model that a config node names, its optional members filled in.

    Its module may lie in the working directory.
    """
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
    missing = missing_members(model)
    if missing:
        raise ModelError(
            f"{target} does not implement the model interface; missing: {', '.join(missing)}. "
            "See promptlab.models.protocol.Model."
        )
    return complete(model)


def open_model_for_plan(node: Mapping[str, Any] | None) -> CompleteModel:
    """Return a model to plan with; it is not downloaded for that."""
    return without_download(open_model(node))


def packaged_words() -> dict[str, Path]:
    """Return the word lists of the models that ship with promptlab: "NAME/subjects" → file."""
    return {
        f"{file.parent.name}/{file.stem}": file
        for file in sorted(Path(__file__).parent.glob("*/*.txt"))
    }
