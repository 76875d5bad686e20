"""Scoring a run: which images lack which score, the scorers in batches, the rows on disk.

Takes a run folder and scorers; leaves scores.parquet and returns how much each had to do. What a
scorer of this fingerprint has answered is not asked again. Knows no particular scorer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from promptlab.errors import ConfigError, PromptlabError
from promptlab.redaction import redact_text
from promptlab.scores.embeddings import batches, drawn_ids, embed_run, read_pixels
from promptlab.scores.protocol import Embedder, Item, Score, Scorer
from promptlab.store import Run, list_runs, read_run
from promptlab.verdicts import scores as rows_of_scores

ITEM_COLUMNS = ("image_id", "cell_id", "arm_id", "prompt", "subject", "style", "seed", "model")
WRITE_EVERY_S = 15.0  # a killed scoring loses what was scored since
MAX_ERROR_LENGTH = 300


@dataclass
class Tally:
    """What one scorer did."""

    scorer: Scorer
    num_known: int = 0  # images that it had answered on before
    num_scored: int = 0
    num_failed: int = 0
    first_error: str = ""


@dataclass
class _Pending:
    """Answers that are not on disk yet."""

    values: dict[str, float | None] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def score_run(
    run_root: str,
    scorers: Sequence[Scorer],
    *,
    retry_failed: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> list[Tally]:
    """Score every image of a run that lacks a score; return what each scorer did."""
    run = read_run(run_root)
    row_from_id = {row["image_id"]: row for row in run.rows([*ITEM_COLUMNS])}
    ids = drawn_ids(run)
    tallies = []
    by_pixels: list[_Worker] = []
    for scorer in scorers:
        kept = as_row(scorer)
        known = rows_of_scores.scored_ids(run_root, kept, with_failed=not retry_failed)
        missing = [image_id for image_id in ids if image_id not in known]
        worker = _Worker(run, Tally(scorer, len(ids) - len(missing)), set(missing))
        tallies.append(worker.tally)
        if not missing:
            continue
        if scorer.scope == "image" and scorer.embedder is None:
            by_pixels.append(worker)
        else:
            chosen = missing if scorer.scope == "image" else ids
            worker.score(_items(run, scorer, row_from_id, chosen))
            worker.close()
            progress(len(missing))
    _score_pixels(run, by_pixels, row_from_id, progress)
    return tallies


def as_row(scorer: Scorer) -> rows_of_scores.Scorer:
    """Return a scorer as scores.parquet keeps it."""
    low, high = scorer.bounds
    return rows_of_scores.Scorer(
        scorer.name, scorer.fingerprint, scorer.is_higher_better, low, high
    )


class _Worker:
    """One scorer at work on one run."""

    def __init__(self, run: Run, tally: Tally, missing: set[str]) -> None:
        self.tally = tally
        self.missing = missing
        self._run = run
        self._pending = _Pending()
        self._written_at = time.monotonic()
        self._is_loaded = False

    def score(self, items: Sequence[Item]) -> None:
        """Score a batch; one that raises is scored again image by image."""
        if not self._is_loaded:
            self.tally.scorer.load()
            self._is_loaded = True
        try:
            scores = self._ask(items)
        except PromptlabError:
            raise
        except Exception as error:
            if len(items) > 1 and self.tally.scorer.scope == "image":
                for item in items:
                    self.score([item])
                return
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            scores = [Score(error=text)] * len(items)
        for item, score in zip(items, scores, strict=True):
            if not item.is_earlier:
                self._keep(item.row["image_id"], score)
        if time.monotonic() - self._written_at > WRITE_EVERY_S:
            self._write()

    def _ask(self, items: Sequence[Item]) -> Sequence[Score]:
        scores = self.tally.scorer.score(items)
        if len(scores) != len(items):
            raise ValueError(f"expected {len(items)} scores, got {len(scores)}")
        return scores

    def _keep(self, image_id: str, score: Score) -> None:
        if score.error is not None:
            error = redact_text(score.error)[:MAX_ERROR_LENGTH]
            self._pending.errors[image_id] = error
            self.tally.num_failed += 1
            self.tally.first_error = self.tally.first_error or error
        else:
            value = score.value
            self._pending.values[image_id] = value if value is None else float(value)
            self.tally.num_scored += 1

    def _write(self) -> None:
        done, self._pending = self._pending, _Pending()
        rows_of_scores.record_scores(
            self._run.paths.root, as_row(self.tally.scorer), done.values, done.errors
        )
        self._written_at = time.monotonic()

    def close(self) -> None:
        """Write what was scored, and free the scorer."""
        self._write()
        if self._is_loaded:
            self.tally.scorer.unload()


def _score_pixels(
    run: Run,
    workers: Sequence[_Worker],
    row_from_id: dict[str, Any],
    progress: Callable[[int], object],
) -> None:
    """Read each image once for all scorers that want its pixels."""
    wanted = set().union(*(worker.missing for worker in workers))
    try:
        for batch in batches(read_pixels(run, wanted)):
            items = [Item(row_from_id[image_id], pixels) for image_id, pixels in batch]
            for worker in workers:
                mine = [item for item in items if item.row["image_id"] in worker.missing]
                if mine:
                    worker.score(mine)
            progress(len(batch))
    finally:
        for worker in workers:
            worker.close()


def _items(
    run: Run, scorer: Scorer, row_from_id: dict[str, Any], chosen: Iterable[str]
) -> list[Item]:
    """Return the items of a scorer that reads vectors."""
    if scorer.embedder is None:
        raise ConfigError(
            f"The scorer {scorer.name} looks at more than one image (scope {scorer.scope!r}): "
            "expected an embedder, whose vectors it compares, got none."
        )
    vectors = embed_run(run, scorer.embedder)
    items = [Item(row_from_id[i], vector=_vector(vectors[i])) for i in chosen if i in vectors]
    if scorer.scope == "project":
        items = [*_earlier_items(run, scorer.embedder, vectors), *items]
    return items


def _earlier_items(run: Run, embedder: Embedder, known: Container[str]) -> list[Item]:
    """Return the images of the runs beside this one that were begun before it, but for its own."""
    runs_dir = run.paths.root.rpartition("/")[0] or "."
    began = run.record.created_at
    items = []
    for root in list_runs(runs_dir):
        other = read_run(root)
        if other.paths.name != run.paths.name and other.record.created_at < began:
            vectors = embed_run(other, embedder)
            items += [
                Item({"image_id": image_id, "cell_id": ""}, vector=_vector(vector), is_earlier=True)
                for image_id, vector in vectors.items()
                if image_id not in known
            ]
    return items


def _vector(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float32)


class Resident:
    """A scorer, or its embedder, that stays loaded between passes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._is_loaded = False
        self._embedder: Resident | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def embedder(self) -> Any:
        """The inner one's embedder, resident too."""
        if self._embedder is None and self._inner.embedder is not None:
            self._embedder = Resident(self._inner.embedder)
        return self._embedder

    def load(self) -> None:
        """Load it once."""
        if not self._is_loaded:
            self._inner.load()
            self._is_loaded = True

    def unload(self) -> None:
        """Keep it loaded."""
