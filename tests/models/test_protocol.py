"""Parameters are refused at plan time, naming what is accepted."""

import pytest

from promptlab.errors import ParameterError
from promptlab.models.protocol import Parameter, normalize_params

PARAMETERS = {
    "temperature": Parameter(float, 1.0, minimum=0.01, maximum=10.0),
    "top_k": Parameter(int, 256, minimum=1, maximum=16384),
    "sampler": Parameter(str, "top-k", choices=("top-k", "greedy")),
    "seamless": Parameter(bool, False),
}


def test_defaults_are_filled_in_and_the_models_order_is_kept():
    given = {"top_k": 8, "temperature": None}
    assert list(normalize_params("tiny", PARAMETERS, given).items()) == [
        ("temperature", 1.0),
        ("top_k", 8),
        ("sampler", "top-k"),
        ("seamless", False),
    ]


def test_eight_and_eight_point_zero_are_one_image():
    as_int = normalize_params("tiny", PARAMETERS, {"top_k": 8, "temperature": 1})
    as_float = normalize_params("tiny", PARAMETERS, {"top_k": 8.0, "temperature": 1.0})
    assert [repr(value) for value in as_int.values()] == [repr(v) for v in as_float.values()]


def test_an_unknown_parameter_is_refused_with_the_accepted_ones():
    with pytest.raises(ParameterError, match=r"no parameter steps.*top_k \(a whole number from 1"):
        normalize_params("tiny", PARAMETERS, {"steps": 20})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", 0),
        ("top_k", 1.5),
        ("top_k", True),
        ("top_k", "many"),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 0),
        ("sampler", "ddim"),
        ("seamless", 1),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name, value):
    with pytest.raises(ParameterError, match=f"{name}=.*expected"):
        normalize_params("tiny", PARAMETERS, {name: value})
