"""The adapter that fills in a model's optional members.

Takes a model with at least the members of `protocol.Model`, returns one with all of
`protocol.CompleteModel`. Changes nothing of the model: its own members are used as they are.
"""

from __future__ import annotations

from typing import Any, cast

from promptlab.models.protocol import DEFAULTS, CompleteModel, Model
from promptlab.records import Numerics

REQUIRED = tuple(name for name in vars(Model) if not name.startswith("_"))


class _Adapter:
    """A model with every optional member; everything else is the model's own."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.own_names = frozenset(dir(model))

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # isinstance sees the model
        return type(self.model)

    def __dir__(self) -> list[str]:
        return sorted({*self.own_names, *DEFAULTS})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def _member(name: str) -> property:
    """Return a member of the adapter: the model's own, or the default."""

    def get(adapter: _Adapter) -> Any:
        if name in adapter.own_names:
            return getattr(adapter.model, name)
        return DEFAULTS[name](adapter.model)

    return property(get)


for _name in (*REQUIRED, *DEFAULTS):
    setattr(_Adapter, _name, _member(_name))


class _NotDownloaded(_Adapter):
    """A model whose fingerprint is unknown, because only its weights can tell."""

    fingerprint = ""

    def describe(self) -> Numerics:
        """Return the numerics without the padded batch, which weights may decide, too."""
        return Numerics(self.model.device, self.model.dtype)


def missing_members(model: object) -> list[str]:
    """Return the required members that an object lacks."""
    own_names = dir(model)
    return [name for name in REQUIRED if name not in own_names]


def complete(model: Model) -> CompleteModel:
    """Return the model with every optional member; one that has them all is returned itself."""
    if DEFAULTS.keys() <= set(dir(model)):
        return cast(CompleteModel, model)
    return cast(CompleteModel, _Adapter(model))


def has_own(model: Model, name: str) -> bool:
    """Tell whether a member is the model's own rather than the default."""
    return name in (model.own_names if type(model) is _Adapter else dir(model))


def without_download(model: CompleteModel) -> CompleteModel:
    """Return a model to plan with: the fingerprint is "" while the weights are not downloaded."""
    return model if model.is_downloaded else cast(CompleteModel, _NotDownloaded(model))
