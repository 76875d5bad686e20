"""`promptlab ui`: MLflow's own UI on the store that sweeps of this folder write.

Takes a URI or finds it as a sweep does; starts `mlflow ui` and waits for it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from promptlab.errors import TrackingError

DEFAULT_PORT = 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--uri", help="tracking URI; default: that of a sweep in this folder")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--host", default="127.0.0.1")


def run(args: argparse.Namespace) -> int:
    """Start the UI and return its exit code; a server that runs already is named instead."""
    from promptlab.tracking import default_artifact_root, resolve_tracking_uri

    uri = resolve_tracking_uri(args.uri)
    if uri.startswith(("http://", "https://")):
        print(f"MLflow runs at {uri}")
        return 0
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    artifacts = default_artifact_root(uri)
    if artifacts is not None:
        command += ["--default-artifact-root", artifacts]
    command += ["--host", args.host, "--port", str(args.port)]
    print(f"MLflow UI of {uri} at http://{args.host}:{args.port} (Ctrl-C ends it)")
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        raise TrackingError(f"mlflow ui cannot be started: {error}.") from error
