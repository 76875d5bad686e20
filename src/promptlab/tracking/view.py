"""Where MLflow's pages show a sweep side by side.

Takes a server's address and a run folder's record of its store; returns addresses and one line
for the end of a sweep. Asks no server.
"""

from __future__ import annotations

import shlex

from promptlab.paths import RunPaths
from promptlab.redaction import redact_text
from promptlab.tracking.location import StoreRecord, database_of, read_record

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5000


def chart_address(server: str, experiment_id: str | None) -> str:
    """Return the page with an experiment's runs side by side; without an id, the list of all.

    The address of an experiment alone opens a view of traces, which sweeps have none of.
    """
    if experiment_id is None:
        return server
    query = "workflowType=machine_learning&compareRunsMode=CHART"
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def server_of(record: StoreRecord) -> str | None:
    """Return the address of the server that holds a run; None where `promptlab ui` serves it."""
    return record.uri if record.uri.startswith(("http://", "https://")) else None


def describe_view(paths: RunPaths) -> list[str]:
    """Return how to look at a run in MLflow: a command and the address; [] if it is not there."""
    record = read_record(paths)
    if record is None:
        return []
    server = server_of(record)
    if server is not None:
        return [chart_address(redact_text(server), record.experiment_id)]
    command = f"promptlab ui {shlex.quote(paths.root)}"
    if database_of(record.uri) is None or record.experiment_id is None:
        return [command]
    return [command, chart_address(f"http://{DEFAULT_HOST}:{DEFAULT_PORT}", record.experiment_id)]
