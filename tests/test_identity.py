"""Ids are hashes of what matters and of nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab import identity

REQUEST = {
    "model": "tiny",
    "model_fingerprint": "0" * 16,
    "dtype": "float32",
    "prompt": "a fox",
    "seed": 3,
    "params": {"temperature": 0.7, "top_k": 64},
}


def test_the_same_request_has_the_same_id_whatever_the_order_of_its_parameters():
    reordered = {**REQUEST, "params": {"top_k": 64, "temperature": 0.7}}
    assert identity.image_id(**REQUEST) == identity.image_id(**reordered)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("model", "mini"),
        ("model_fingerprint", "1" * 16),
        ("dtype", "bfloat16"),
        ("prompt", "a fox "),
        ("seed", 4),
        ("params", {"temperature": 0.7, "top_k": 65}),
    ],
)
def test_whatever_determines_an_image_changes_its_id(name, other):
    assert identity.image_id(**REQUEST) != identity.image_id(**{**REQUEST, name: other})


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_prompt_has_an_id_of_16_hex_digits(prompt):
    value = identity.image_id(**{**REQUEST, "prompt": prompt})
    assert len(value) == 16
    assert set(value) <= set("0123456789abcdef")


def test_a_number_that_is_no_number_has_no_id():
    with pytest.raises(ValueError, match="not JSON compliant"):
        identity.hash_id({"temperature": float("nan")})


def test_the_ids_of_three_fixed_requests_are_these():
    fox = REQUEST | {"model_fingerprint": "d4079cce86ac33ad", "seed": 0, "dtype": "float32"}
    fox |= {"prompt": "a fox in the style of noto"}
    fox |= {"params": {"temperature": 0.3, "top_k": 32, "supercondition_factor": 3.0}}
    assert identity.image_id(**fox) == "d49cd0695ec2912a"
    other = {
        "model": "mega",
        "model_fingerprint": "0123456789abcdef",
        "dtype": "bfloat16",
        "prompt": 'café 🦊, "quoted"\nline',
        "seed": 2**63 - 1,
        "params": {"temperature": 1.0, "sampler": "greedy", "seamless": True, "lora": None},
    }
    assert identity.image_id(**other) == "6f05c7e00aca29e8"
    undecodable = {**fox, "model_fingerprint": "0" * 16, "prompt": "\udce9", "seed": 3}
    assert identity.image_id(**undecodable | {"params": {}}) == "ef0fcf69c14953bf"


def test_further_facts_count_only_where_they_are():
    empty = {"source": None, "padded_batch": None, "strength": "", "loras": []}
    assert identity.image_id(**REQUEST, further=empty) == identity.image_id(**REQUEST)
    ids = {
        identity.image_id(**REQUEST, further=further)
        for further in ({}, {"source": "ab"}, {"source": "cd"}, {"padded_batch": 8})
    }
    assert len(ids) == 4
