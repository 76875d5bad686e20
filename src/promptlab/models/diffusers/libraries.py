"""diffusers and transformers, imported where they are used, and how much they may say.

Takes nothing, returns the libraries. Knows no pipeline.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any


def import_transformers() -> Any:
    """Return transformers; a torchvision that does not fit torch counts as not installed.

    transformers imports one that is installed, and cannot be imported itself if that fails.
    """
    try:
        importlib.import_module("torchvision")
    except Exception:
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    import transformers

    for handler in logging.getLogger("transformers").handlers:
        handler.addFilter(lambda record: "requires torchvision" not in record.getMessage())
    transformers.utils.logging.disable_progress_bar()
    return transformers


def import_diffusers() -> Any:
    """Return diffusers, after transformers."""
    import_transformers()
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def let_warn(is_allowed: bool) -> None:
    """Let the libraries warn, as of weights that a pipeline lacks, or not."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity(logging.WARNING if is_allowed else logging.ERROR)
