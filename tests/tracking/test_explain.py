"""What MLflow's errors mean: away, a full disk, or a refused call; without a credential."""

from __future__ import annotations

import pytest
import requests
import sqlalchemy
from mlflow.exceptions import MlflowException

from promptlab.paths import RunPaths
from promptlab.tracking.explain import describe_failure, is_foreign, is_unreachable
from promptlab.tracking.options import TrackingOptions


def raised(error: BaseException, cause: BaseException | None = None, *, hides: bool = False):
    """Return an error as it is when another one led to it, named as its cause or not."""
    try:
        try:
            if cause is not None:
                raise cause
        except BaseException as earlier:
            if hides:
                raise error  # noqa: B904  its context alone tells
            raise error from earlier
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("no"),
        TimeoutError("no answer"),
        requests.exceptions.ReadTimeout("no answer"),
        MlflowException("API request failed: Max retries exceeded with url: /api"),
        RuntimeError("Failed to connect to host"),
        raised(MlflowException("the API"), ConnectionResetError("reset")),
        raised(MlflowException("the API"), ConnectionResetError("reset"), hides=True),
    ],
)
def test_a_server_that_is_away_is_known_by_any_error_of_the_chain(error: BaseException) -> None:
    assert is_unreachable(error)
    assert is_foreign(error)
    text = describe_failure(TrackingOptions(uri="http://host:9"), RunPaths("runs/a"), error)
    assert "cannot be reached" in text
    assert "when it is back" in text


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (PermissionError(13, "Permission denied"), "could not be brought up to date"),
        (MlflowException("no such luck"), "refused a call"),
        (sqlalchemy.exc.SQLAlchemyError("full"), "refused a call"),
    ],
)
def test_what_a_library_or_the_file_system_refused_is_no_server_that_is_away(
    error: BaseException, what: str
) -> None:
    assert not is_unreachable(error)
    assert is_foreign(error)
    text = describe_failure(TrackingOptions(uri="http://host:9"), RunPaths("runs/a"), error)
    assert what in text
    assert text.endswith("promptlab sync runs/a")


def test_a_fault_of_our_own_is_no_foreign_one() -> None:
    assert not is_foreign(raised(KeyError("arm_id")))
    assert not is_foreign(AssertionError("no"))


def test_a_failure_names_no_credential_of_its_address_or_its_reason() -> None:
    uri = "http://bob:SECRET@host:9"
    error = MlflowException(f"GET {uri}/api refused\nand more")
    text = describe_failure(TrackingOptions(uri=uri), RunPaths("runs/a"), error)
    assert "SECRET" not in text
    assert "GET http://bob:***@host:9/api refused)" in text
    assert "and more" not in text
