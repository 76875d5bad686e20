"""No credential is written down, whatever it stands in; everything else stays as it is."""

from __future__ import annotations

import pytest

from promptlab import redaction
from promptlab.redaction import MARK, is_secret_name, keep_out, lacks_secret, redact, redact_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://bob:SECRET@host:9/x", f"http://bob:{MARK}@host:9/x"),
        ("tracking.uri=http://bob:S@C:RET@host", f"tracking.uri=http://bob:{MARK}@host"),
        ("postgresql+psycopg2://u:SECRET@db/x", f"postgresql+psycopg2://u:{MARK}@db/x"),
        ("s3://KEY:SECRET@bucket/runs is full", f"s3://KEY:{MARK}@bucket/runs is full"),
        (
            "GET https://h/a?n=1&X-Amz-Signature=SECRET&z=2 failed",
            f"GET https://h/a?n=1&X-Amz-Signature={MARK}&z=2 failed",
        ),
        ("https://x.blob/c?sv=1&sig=SECRET", f"https://x.blob/c?sv=1&sig={MARK}"),
        ("https://h/a?api_key=SECRET", f"https://h/a?api_key={MARK}"),
        ("+model.api_key=SECRET two", f"+model.api_key={MARK}"),
        ("++http.token=SECRET", f"++http.token={MARK}"),
    ],
)
def test_a_credential_in_a_text_is_replaced_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact_text(text) == expected
    assert redact_text(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a fox, 3:4 @ noon",
        "http://127.0.0.1:5000/#/experiments/1?a=b",
        "sqlite:////home/x/mlflow.db",
        "max_tokens=30",
        "subject=a key = a secret",
        "model.tokenizer=bpe",
        "keyboard=qwerty",
        "http://host:9/path/a@b",
    ],
)
def test_a_text_without_credentials_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "argument",
    [
        "tracking.uri=http://bob:SECRET@host:9",
        "+model.api_key=SECRET",
        "model.url=https://h/a?api_key=SECRET",
        "runs_dir=s3://KEY:SECRET@bucket/runs",
    ],
)
def test_an_argument_that_was_recorded_lacks_its_credential_and_one_as_typed_does_not(
    argument: str,
) -> None:
    recorded = redact_text(argument)
    assert "SECRET" not in recorded
    assert lacks_secret(recorded)
    assert not lacks_secret(argument)


@pytest.mark.parametrize("argument", ["subject=a *** fox", "seeds=4", "subject=a: b@c", "-m"])
def test_an_argument_without_a_credential_lacks_none(argument: str) -> None:
    assert not lacks_secret(redact_text(argument))


def test_values_are_judged_by_their_keys_at_any_depth() -> None:
    config = {
        "model": {"api_key": "x", "headers": {"Authorization": "Bearer x"}, "max_tokens": 3},
        "store": [{"aws_secret_access_key": "y", "key": "kept", "token": None}],
    }
    assert redact(config) == {
        "model": {"api_key": MARK, "headers": {"Authorization": MARK}, "max_tokens": 3},
        "store": [{"aws_secret_access_key": MARK, "key": "kept", "token": None}],
    }


def test_credentials_of_the_environment_are_replaced_wherever_they_stand(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter-two")
    monkeypatch.setenv("ACME_API_KEY", "abc")  # too short to be told from a word
    assert redact({"note": "said hunter-two, abc"}) == {"note": f"said {MARK}, abc"}


def test_of_two_credentials_that_begin_alike_neither_is_left_in_part(monkeypatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "hunter")
    monkeypatch.setenv("ACME_PASSWORD", "hunter-two-three")
    assert redact_text("hunter-two-three, hunter") == f"{MARK}, {MARK}"


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "apikey", "access_key", "access_key_id", "aws_secret_access_key", "secret"),
        *("client_secret", "secret_key", "private_key", "password", "passwd", "passphrase"),
        *("token", "auth_token", "access_token", "session_token", "security_token"),
        *(
            "authtoken",
            "sessiontoken",
            "securitytoken",
            "bearer_token",
            "refresh_token",
            "hf_token",
            "credential",
            "credentials",
        ),
        *("authorization", "signature", "model.api_key", "http.headers.Authorization", "TOKEN"),
        *("X-Amz-Signature", "db/password", "model@token"),
    ],
)
def test_a_key_with_a_telling_name_holds_a_credential(name: str) -> None:
    assert is_secret_name(name)
    assert redact({name: "plain"}) == {name: MARK}
    assert redact_text(f"+{name}=plain text") == f"+{name}={MARK}"


@pytest.mark.parametrize(
    "name", ["max_tokens", "tokenizer", "keyboard", "key", "secretary", "path", "notatoken.path"]
)
def test_a_key_whose_name_only_resembles_one_holds_none(name: str) -> None:
    assert not is_secret_name(name)
    assert redact({name: "plain"}) == {name: "plain"}


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *((name, True) for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")),
        *((name, True) for name in ("DB_PASSWORD", "APP_SECRET", "GOOGLE_CREDENTIALS", "token")),
        *((name, False) for name in ("KEYBOARD", "MAX_TOKENS", "MONKEY", "TOKENIZERS_PATH")),
    ],
)
def test_a_variable_of_the_environment_is_a_credential_by_its_name(
    monkeypatch, name: str, is_secret: bool
) -> None:
    monkeypatch.setenv(name, "s3cret-value")
    shown = redact({"note": ["a s3cret-value here"]})
    assert shown == {"note": [f"a {MARK} here" if is_secret else "a s3cret-value here"]}


def test_a_credential_of_digits_is_one_and_a_number_of_a_token_is_none() -> None:
    config = {"password": 12345678, "api_key": 987654.5, "end_token": 50256, "secret": False}
    assert redact(config) == {**config, "password": MARK, "api_key": MARK}


def test_what_is_kept_out_is_replaced_unless_it_is_too_short_to_be_told_from_a_word(
    monkeypatch,
) -> None:
    monkeypatch.setattr(redaction, "_KEPT_OUT", set())
    keep_out("my-code-word")
    keep_out("fox")
    assert redact_text("a fox, my-code-word") == f"a fox, {MARK}"
