"""A command of the user's as a scorer: it reads a Parquet file of images and writes one of scores.

For scorers that are heavy, or whose licence or dependencies keep them apart (HPSv3, VQAScore,
pyiqa), in an environment of their own. The input has image_id, prompt and path (a PNG file); the
output must have image_id and value, null where there is none.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from promptlab.errors import ConfigError
from promptlab.identity import hash_id
from promptlab.png import compress
from promptlab.scores.protocol import Item, Score, Weightless

MAX_ERROR_LENGTH = 200


class CommandScorer(Weightless):
    """Runs a command for every batch; {input} and {output} in it are the files."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        is_higher_better: bool = True,
        version: str = "1",  # change it when the command gives other values
        timeout_s: float = 3600.0,
    ) -> None:
        if not any("{input}" in part for part in command):
            raise ConfigError(
                f"The scorer {name} needs a command with {{input}} and {{output}} in it, such as "
                '[other/bin/python, hps.py, "{input}", "{output}"].'
            )
        self.name = name
        self.is_higher_better = is_higher_better
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self.fingerprint = hash_id([*command, version])

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return what the command wrote for each image."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
            paths = []
            for item in items:
                assert item.pixels is not None
                paths.append(str(Path(folder, f"{item.row['image_id']}.png")))
                Path(paths[-1]).write_bytes(compress(item.pixels))
            table = {key: [item.row[key] for item in items] for key in ("image_id", "prompt")}
            given, taken = str(Path(folder, "input.parquet")), str(Path(folder, "output.parquet"))
            pq.write_table(pa.table({**table, "path": paths}), given)
            error = self._run(given, taken)
            if error:
                return [Score(error=error)] * len(items)
            try:
                rows = pq.read_table(taken, columns=["image_id", "value"]).to_pylist()
            except (OSError, ValueError, KeyError) as problem:
                return [Score(error=f"its output cannot be read: {problem}")] * len(items)
        values = {row["image_id"]: row["value"] for row in rows}
        return [
            Score(values[i]) if i in values else Score(error="the command wrote no row for it")
            for i in (item.row["image_id"] for item in items)
        ]

    def _run(self, given: str, taken: str) -> str | None:
        """Run the command; return what went wrong."""
        command = [part.format(input=given, output=taken) for part in self._command]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self._timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{type(error).__name__}: {error}"
        if done.returncode:
            said = " ".join(done.stderr.split())[-MAX_ERROR_LENGTH:]
            return f"the command ended with {done.returncode}: {said}"
        return None
