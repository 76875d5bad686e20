"""Taste: a small head on vectors of images, fitted to the person's own picks; then a scorer.

Takes runs with picks and an embedder; returns weights with an honest figure of how well they tell
picked images from others that were not used for fitting, by cross-validation. Logistic regression
on standardized vectors, as strong a pull to zero as cross-validation likes best. Knows no page.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from promptlab.errors import ConfigError, ReportError
from promptlab.scores.agreement import Estimate, auc, grade
from promptlab.scores.embeddings import embed_run
from promptlab.scores.protocol import Embedder, Item, Scope, Score
from promptlab.store import read_run
from promptlab.verdicts.picks import current_picks

MIN_JUDGED = 30  # images, picked or not; with fewer, chance looks like taste
MIN_EACH = 8  # of the picked, and of the others
NUM_FOLDS = 5
NUM_REPEATS = 3  # divisions into folds, so that one lucky division does not decide
PENALTIES = (3.0, 10.0, 30.0, 100.0)  # strengths of the pull to zero
NUM_STEPS = 25  # of Newton's method: it needs fewer
TASTE_FILE = "taste.json"  # in the working directory, beside conf/


@dataclass(frozen=True, slots=True)
class Taste:
    """A fitted head."""

    embedder: str  # name of the scorer config whose vectors it reads
    embedder_fingerprint: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    penalty: float
    num_picked: int
    num_judged: int
    auc: float  # cross-validated
    auc_low: float | None
    auc_high: float | None

    @property
    def fingerprint(self) -> str:
        """Hash of the head: a fit with other picks makes all values anew."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Return how likely the person picks images with these vectors [image, dim]."""
        standard = (vectors - np.array(self.mean)) / np.array(self.scale)
        return _sigmoid(standard @ np.array(self.weights) + self.bias)


def fit_taste(roots: Sequence[str], embedder: Embedder, embedder_name: str) -> Taste:
    """Fit a head on the judged images of some runs; ReportError where there are too few."""
    vectors, is_picked, cells = _judged(roots, embedder)
    num_picked, num_judged = int(is_picked.sum()), len(is_picked)
    if num_judged < MIN_JUDGED or min(num_picked, num_judged - num_picked) < MIN_EACH:
        raise ReportError(
            f"Taste needs at least {MIN_JUDGED} judged images, {MIN_EACH} of them picked and "
            f"{MIN_EACH} not; got {num_judged}, {num_picked} of them picked. Rate or reject more "
            "on the page, import them (promptlab pick --import), and run this again."
        )
    estimates = {}
    for penalty in PENALTIES:
        estimates[penalty] = cross_validate(vectors, is_picked, cells, penalty)
    best = max(PENALTIES, key=lambda penalty: (estimates[penalty].value, penalty))
    mean, scale = standard_of(vectors)
    weights = fit_logistic((vectors - mean) / scale, is_picked, best)
    return Taste(
        embedder=embedder_name,
        embedder_fingerprint=embedder.fingerprint,
        mean=_plain(mean),
        scale=_plain(scale),
        weights=_plain(weights[:-1]),
        bias=round(float(weights[-1]), 6),
        penalty=best,
        num_picked=num_picked,
        num_judged=num_judged,
        auc=estimates[best].value,
        auc_low=estimates[best].low,
        auc_high=estimates[best].high,
    )


def _judged(roots: Sequence[str], embedder: Embedder) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return vectors, picks and cells of the judged images, each once, in order of their ids."""
    found: dict[str, tuple[np.ndarray, bool, str]] = {}
    for root in roots:
        picks = {i: p for i, p in current_picks(root).items() if grade(p) is not None}
        run = read_run(root)
        cells = {row["image_id"]: row["cell_id"] for row in run.rows(["image_id", "cell_id"])}
        vectors = embed_run(run, embedder) if picks else {}
        for image_id, pick in picks.items():
            if image_id in vectors:
                found[image_id] = (vectors[image_id], pick.is_pick(), cells[image_id])
    ordered = [found[image_id] for image_id in sorted(found)]
    return (
        np.array([vector for vector, _, _ in ordered], np.float64),
        np.array([is_pick for _, is_pick, _ in ordered], bool),
        [cell for _, _, cell in ordered],
    )


def cross_validate(
    vectors: np.ndarray, is_picked: np.ndarray, cells: Sequence[str], penalty: float
) -> Estimate:
    """Return the AUC on images whose cells were left out of the fit.

    Whole cells are left out: seeds of one prompt look alike, and a head that has seen one of them
    knows the others.
    """
    names = sorted(set(cells))
    shares = np.zeros(len(vectors))
    for repeat in range(NUM_REPEATS):
        order = np.random.default_rng(repeat).permutation(len(names))
        fold_from_cell = {names[cell]: place % NUM_FOLDS for place, cell in enumerate(order)}
        fold = np.array([fold_from_cell[cell] for cell in cells])
        for number in range(NUM_FOLDS):
            is_left_out = fold == number
            known = ~is_left_out
            if not is_left_out.any() or len(set(is_picked[known])) < 2:
                continue
            mean, scale = standard_of(vectors[known])
            weights = fit_logistic((vectors[known] - mean) / scale, is_picked[known], penalty)
            standard = (vectors[is_left_out] - mean) / scale
            shares[is_left_out] += standard @ weights[:-1] + weights[-1]
    estimate = auc(shares.tolist(), is_picked.tolist())
    assert estimate is not None
    return estimate


def standard_of(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and spread of each dimension; one that never varies is left as it is."""
    spread = vectors.std(0)
    return vectors.mean(0), np.where(spread > 1e-6, spread, 1.0)


def fit_logistic(vectors: np.ndarray, is_picked: np.ndarray, penalty: float) -> np.ndarray:
    """Return weights [dim + 1], the bias last, by Newton's method; the bias is not pulled."""
    x = np.hstack([vectors, np.ones((len(vectors), 1))])
    pull = np.full(x.shape[1], penalty)
    pull[-1] = 1e-6
    weights = np.zeros(x.shape[1])
    for _ in range(NUM_STEPS):
        share = _sigmoid(x @ weights)
        gradient = x.T @ (share - is_picked) + pull * weights
        curvature = (x * (share * (1 - share))[:, None]).T @ x + np.diag(pull)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -40, 40)))


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)


def write_taste(taste: Taste, path: str = TASTE_FILE) -> None:
    """Keep a head as JSON."""
    from promptlab.atomic import write_files

    write_files({path: (json.dumps(asdict(taste)) + "\n").encode()}, is_durable=True)


def read_taste(path: str = TASTE_FILE) -> Taste:
    """Read a head; ConfigError where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            plain: dict[str, Any] = json.load(file)
        lists = {key: tuple(plain[key]) for key in ("mean", "scale", "weights")}
        return Taste(**{**plain, **lists})
    except FileNotFoundError:
        raise ConfigError(
            f"There is no {os.path.abspath(path)}: fit one first, `promptlab taste RUN …`."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not what `promptlab taste` writes: {error}") from error


class TasteScorer:
    """How likely the person picks an image, by what they picked before."""

    name = "taste"
    is_higher_better = True
    bounds = (0.0, 1.0)
    scope: Scope = "image"

    def __init__(self, path: str = TASTE_FILE) -> None:
        from promptlab.scores.registry import open_embedder

        self._taste = read_taste(path)
        self.embedder: Embedder | None = open_embedder(self._taste.embedder)
        if self.embedder.fingerprint != self._taste.embedder_fingerprint:
            raise ConfigError(
                f"{path} was fitted on other weights of {self._taste.embedder}: fit it again, "
                "`promptlab taste RUN …`."
            )

    @property
    def fingerprint(self) -> str:
        """Hash of the head."""
        return self._taste.fingerprint

    def load(self) -> None:
        """Load nothing: the head is read already."""

    def unload(self) -> None:
        """Free nothing."""

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return the head's value of each image."""
        vectors = np.array([item.vector for item in items], np.float64)
        return [Score(value) for value in self._taste.apply(vectors).tolist()]
