"""No credential is in anything that a sweep writes: a grep over all of it finds none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from promptlab.cli import main
from promptlab.records import Request, Result
from promptlab.tracking.options import TrackingOptions
from promptlab.tracking.syncing import sync
from tests.conftest import Project
from tests.painters import PaintModel
from tests.tracking.holding import make_database

SECRET = "Tr0ub4dor"
MODEL = """\
# @package _global_
model:
  _target_: tests.flow.test_secrets.PaidModel
  name: paid
  api_key: {secret}-of-a-config
  url: https://user:{secret}-of-a-url@example.org/v1?api_key={secret}-of-a-query
temperature: null
top_k: null
supercondition_factor: null
"""


@dataclass
class PaidModel(PaintModel):
    """A hosted model whose errors quote its address."""

    api_key: str = ""
    url: str = ""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield foxes, and an error for everything else."""
        for request in requests:
            if "fox" not in request.prompt:
                yield Result(request, error=f"RuntimeError: POST {self.url} 402")
            else:
                yield from super().draw([request])


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_no_credential_is_in_anything_that_a_sweep_writes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAID_API_KEY", f"{SECRET}-of-the-environment")
    project.write("conf/model/paid.yaml", MODEL.format(secret=SECRET))
    arguments = ["sweep", "-m", "model=paid", "subject=a fox,a wolf", "seeds=2"]
    away = f"tracking.uri=http://bob:{SECRET}-of-an-argument@127.0.0.1:9"
    assert main([*arguments, away]) == 1  # the wolf cannot be drawn
    (run,) = project.runs
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sync(str(run), TrackingOptions(uri=make_database(project.path)))
    project.run("report", str(run), "--standalone", str(project.path / "one.html"))
    written = [path for path in project.path.rglob("*") if path.is_file()]
    assert {"sweep.yaml", "sweep.log", "index.html", "mlflow.db"} <= {p.name for p in written}
    found = [path for path in written if SECRET.encode() in path.read_bytes()]
    assert found == [project.path / "conf/model/paid.yaml"]
    assert "***" in (run / "sweep.yaml").read_text()
    errors = [row["error"] for row in project.rows(run) if row["error"]]
    assert errors == ["RuntimeError: POST https://user:***@example.org/v1?api_key=*** 402"] * 2


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_a_resumed_sweep_asks_for_the_credential_that_was_not_recorded(project: Project) -> None:
    away = "tracking.uri=http://bob:SECRET@127.0.0.1:9"
    begun = ["model=paint", "subject=a fox", away, "tracking.enabled=false"]
    assert main(["sweep", *begun]) == 0
    (run,) = project.runs
    project.capsys.readouterr()
    assert main(["sweep", "--resume", str(run)]) == 1
    error = project.capsys.readouterr().err
    assert "tracking.uri=http://bob:***@127.0.0.1:9 was recorded without its credential" in error
    assert "tracking.uri=…" in error
    assert main(["sweep", "--resume", str(run), away]) == 0
