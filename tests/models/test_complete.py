"""A model with the ten required members works as one that has the optional members, too."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from promptlab.errors import ModelError
from promptlab.models.complete import complete
from promptlab.models.protocol import DEFAULTS, CompleteModel, Model
from promptlab.models.registry import open_model
from promptlab.records import Numerics, Request
from tests.painters import PaintModel

REQUEST = Request("0" * 16, "a fox", 0, {"temperature": 0.5})


@dataclass
class PricedModel(PaintModel):
    """Costs two cents an image, has no weights at first, and has words of its own."""

    is_downloaded: bool = False
    words: dict[str, Path] = field(default_factory=lambda: {"paint/animals": Path("animals.txt")})

    def price_of(self, request: Request) -> float:
        """Two cents."""
        return 0.02


def test_every_optional_member_has_a_default():
    optional = {name for name in vars(CompleteModel) if not name.startswith("_")}
    assert DEFAULTS.keys() == optional
    model = complete(PaintModel(size=48, dtype="bfloat16"))
    params = {"temperature": 0.5, "top_k": 8, "supercondition_factor": 3.0}
    assert model.group_of(REQUEST) == model.group_of(Request("1" * 16, "a robot", 1, {}))
    assert model.settle(params) == params
    assert model.size_of(params) == (48, 48)
    assert model.price_of(REQUEST) is None
    assert model.a1111(params) == (
        "Steps: 1, Sampler: unknown, CFG scale: 3.0, Temperature: 0.5, Top k: 8"
    )
    assert model.is_downloaded
    assert model.words == {}
    assert not model.takes_source
    assert model.describe() == Numerics("cpu", "bfloat16")
    seen: list[int] = []
    (result,) = model.draw_with_previews([REQUEST], lambda step, *_: seen.append(step))
    assert (result.request, seen) == (REQUEST, [])


def test_a_models_own_members_are_used_as_they_are_now():
    plain = PricedModel()
    model = complete(plain)
    assert model.price_of(REQUEST) == 0.02
    assert list(model.words) == ["paint/animals"]
    assert not model.is_downloaded
    plain.is_downloaded = True
    assert model.is_downloaded


def test_completing_changes_nothing_of_the_model():
    plain = PaintModel()
    before = dir(plain), dict(vars(plain))
    model = complete(plain)
    assert (dir(plain), dict(vars(plain))) == before
    assert isinstance(model, Model)
    assert isinstance(model, PaintModel)
    assert model.size == 32, "its other members can be reached"
    assert complete(model) is model


def test_a_class_that_lacks_required_members_is_refused_with_their_names():
    with pytest.raises(ModelError, match=r"missing: name, fingerprint, .*protocol\.Model"):
        open_model({"_target_": "fractions.Fraction"})


def test_a_value_of_a_parameter_cannot_look_like_another_setting():
    line = complete(PaintModel()).a1111({"sampler": "a, Seed: 5\nb"})
    assert line == "Steps: 1, Sampler: a  Seed  5 b"


def test_an_image_token_of_the_embedded_model_is_a_step():
    model = open_model({"_target_": "promptlab.models.dalle.open_tiny"})
    assert model.a1111({"temperature": 0.3}).startswith("Steps: 100, Sampler: top-k, ")
