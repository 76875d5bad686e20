"""What is neither flag nor override is answered with the command that is meant."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.configs.hydra_app import compose_jobs
from promptlab.configs.misread import check_flags, check_words
from promptlab.errors import ConfigError


def advised(message: str) -> list[list[str]]:
    """The arguments of every command in a message, as a shell would read them."""
    return [
        shlex.split(each)[2:] for each in re.findall(r"promptlab sweep (?!--).*?(?=; |$)", message)
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["fox"], [["subject=fox"]]),
        (["a", "fox"], [["subject=a fox"]]),
        (["a fox", "style=noto"], [["subject=a fox", "style=noto"]]),
        (["=fox"], [["subject=fox"]]),
        (["a b=c"], [["subject=a b=c"]]),
        (["subject=a", "fox", "style=noto"], [["subject=a fox", "style=noto"]]),
        (
            ["style=noto", "it's", "16:9", "seeds=4"],
            [["style=noto", "subject=it's 16:9", "seeds=4"]],
        ),
        (["temperature=0.5", "fox"], [["temperature=0.5", "subject=fox"]]),
        (["-m", "subject=a,b", "fox"], [["-m", "subject=a,b fox"]]),
        (["x,b"], [["-m", "subject=x,b"], ['subject="x,b"']]),
        (["subject=red,", "fox"], [["-m", "subject=red, fox"], ['subject="red, fox"']]),
        (["subject=x", "style=noto", "fox"], []),
        (["subject", "=", "fox"], []),
    ],
)
def test_words_that_are_no_override_are_answered_with_the_command_that_is_meant(typed, meant):
    with pytest.raises(ConfigError, match="expected key=value") as caught:
        compose_jobs(typed)
    assert advised(str(caught.value)) == meant
    for command in meant:
        assert compose_jobs(command)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--seeds=3", "subject=x"], [["seeds=3", "subject=x"]]),
        (["subject=x", "--seeds", "3"], [["subject=x", "seeds=3"]]),
        (["--seeds", "3", "-m", "subject=x,y"], [["seeds=3", "-m", "subject=x,y"]]),
        (["subject=x", "-y"], []),
        (["subject=x", "--steps", "--seeds=3"], []),
    ],
)
def test_a_key_written_as_a_flag_is_answered_with_the_override(typed, meant):
    with pytest.raises(ConfigError, match="there is no such flag") as caught:
        compose_jobs(typed)
    assert advised(str(caught.value)) == meant
    for command in meant:
        assert compose_jobs(command)


@given(st.lists(st.text("ab ,'\"{}|:=~$\\(é", min_size=1, max_size=6), min_size=1, max_size=3))
@settings(max_examples=60)
def test_no_words_at_all_reach_hydras_grammar_unread(words):
    with pytest.raises(ConfigError, match=r"expected key=value"):
        check_words(["!", *words], ["!", *words])


def test_overrides_of_all_kinds_and_known_flags_pass():
    overrides = ["subject=", "+a.b=1", "++c=", "~style", "style@x=noto", "subject=a = b"]
    check_words(["-m", *overrides], overrides)
    check_flags(["-m", *overrides], [])
