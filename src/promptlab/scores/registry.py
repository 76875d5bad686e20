"""From a scorer's name to the scorer: a file of conf/scorer with a `_target_`, packaged or own.

Takes names, returns scorers that are not loaded yet. Knows no particular scorer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from promptlab.configs.explain import close_names
from promptlab.configs.vocabulary import find_options, read_option
from promptlab.errors import ConfigError, PromptlabError
from promptlab.scores.protocol import Embedder, Scorer

MATCHED = ("tiny_subject", "tiny_style")  # they know what the embedded model knows
MEASURED = ("sharpness", "colorfulness", "contrast")  # of any model's images
MEMBERS = ("name", "fingerprint", "is_higher_better", "bounds", "scope", "embedder", "score")


def default_scorers(models: Iterable[str]) -> tuple[str, ...]:
    """Return the scorers of a run whose images these models drew."""
    return MATCHED if set(models) == {"tiny"} else MEASURED


def default_embedder(models: Iterable[str]) -> str:
    """Return whose vectors taste reads of images that these models drew."""
    return "tiny" if set(models) == {"tiny"} else "measures"


def open_embedder(name: str) -> Embedder:
    """Return what makes vectors: "tiny", "measures", or a scorer's own, by the scorer's name."""
    from promptlab.scores.measures import Measures

    if name == "measures":
        return Measures()
    if name == "tiny":
        from promptlab.scores.tiny_match.scorer import TinyVectors

        return TinyVectors()
    embedder = open_scorer(name).embedder
    if embedder is None:
        raise ConfigError(
            f"The scorer {name} has no vectors. Expected tiny, measures, or a scorer with some, "
            "such as clip."
        )
    return embedder


def open_scorer(name: str) -> Scorer:
    """Return the scorer of a file of conf/scorer; its module may lie in the working directory."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    options = find_options("scorer")
    if name not in options:
        close = close_names(name, options)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(f"Unknown scorer {name!r}.{hint} Known: {', '.join(options)}.")
    node = read_option(options[name])
    if "_target_" not in node:
        raise ConfigError(f"{options[name].path}: expected a `_target_`, the scorer's class.")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own scorer beside their conf/
    try:
        scorer: Scorer = instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, PromptlabError):
            raise cause from None
        raise ConfigError(f"The scorer {name} cannot be opened: {cause or error}") from error
    missing = [member for member in MEMBERS if not hasattr(scorer, member)]
    if missing:
        raise ConfigError(
            f"{node['_target_']} is no scorer; missing: {', '.join(missing)}. See "
            "promptlab.scores.protocol.Scorer."
        )
    return scorer


def open_scorers(names: Sequence[str]) -> list[Scorer]:
    """Return several scorers; "all" is every one that needs nothing but promptlab itself."""
    named = [*MATCHED, *packaged_measures()] if "all" in names else list(dict.fromkeys(names))
    return [open_scorer(name) for name in named]


def packaged_measures() -> list[str]:
    """Return the measures that need no weights."""
    options = find_options("scorer")
    return [
        name
        for name, option in options.items()
        if str(read_option(option).get("_target_", "")).startswith("promptlab.scores.measures.")
    ]
