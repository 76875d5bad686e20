"""Measures say of plain pictures what anyone sees."""

from collections.abc import Callable

import numpy as np
import pytest

from promptlab.errors import ConfigError
from promptlab.scores.measures import MEASURES, Look, Measure, Relative
from promptlab.scores.protocol import Item
from tests.scores.scorers import flat, noise


def measure(name: str, pixels: np.ndarray) -> float:
    (score,) = Measure(name).score([Item({}, pixels)])
    assert score.value is not None
    return score.value


def relate(name: str, pictures: list[np.ndarray], cells: str, num_earlier: int = 0) -> list:
    vectors = Look().embed(pictures)
    items = [
        Item({"image_id": str(i), "cell_id": cell}, vector=vector, is_earlier=i < num_earlier)
        for i, (vector, cell) in enumerate(zip(vectors, cells, strict=True))
    ]
    return [score.value for score in Relative(name).score(items)]


def blurred(pixels: np.ndarray) -> np.ndarray:
    wide = np.pad(pixels.astype(float), ((1, 1), (1, 1), (0, 0)), "edge")
    parts = [wide[y : y + 32, x : x + 32] for y in range(3) for x in range(3)]
    return (sum(parts) / 9).astype(np.uint8)


def gray(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels.mean(2, keepdims=True), 3, 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sharpness", blurred),
        ("colorfulness", gray),
        ("contrast", lambda pixels: (pixels // 4 + 90).astype(np.uint8)),
    ],
)
def test_a_measure_falls_when_its_quality_is_taken_away(
    name: str, change: Callable[[np.ndarray], np.ndarray]
):
    pixels = noise(0)
    assert measure(name, change(pixels)) < 0.6 * measure(name, pixels)
    assert measure(name, flat(200)) == pytest.approx(0, abs=1e-3)


def test_blank_is_the_share_of_the_most_frequent_color():
    pixels = flat(255)
    assert measure("blank", pixels) == 1.0
    pixels[:8] = (200, 0, 0)
    assert measure("blank", pixels) == 0.75


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 5, 3)])
@pytest.mark.parametrize("name", MEASURES)
def test_the_smallest_images_have_measures_too(name: str, shape: tuple[int, ...]):
    assert np.isfinite(measure(name, np.zeros(shape, np.uint8)))


def test_a_twin_is_another_seed_of_the_same_cell_that_looks_the_same():
    same = noise(1)
    first, second, other, stranger = relate("twin", [same, same, noise(2), same], "aaab")
    assert first == second == 1.0
    assert other < 0.9
    assert stranger is None, "a single seed has no other"


def test_spread_is_zero_where_all_seeds_are_the_same():
    assert relate("spread", [flat(9), flat(9)], "aa") == [0, 0]
    near, far = (relate("spread", [flat(0), flat(level)], "aa")[0] for level in (40, 80))
    assert (near, far) == (pytest.approx(40, abs=0.1), pytest.approx(80, abs=0.1))


def test_novelty_looks_back_and_never_ahead():
    values = relate("novelty", [flat(0), flat(30), flat(130), flat(30)], "abcd")
    assert values[0] is None, "nothing was drawn before"
    assert values[1:3] == [pytest.approx(30, abs=0.5), pytest.approx(100, abs=0.5)]
    assert values[3] == pytest.approx(0, abs=0.5)


def test_images_of_earlier_runs_count_for_novelty_and_are_not_scored():
    values = relate("novelty", [flat(50), flat(60)], "ab", num_earlier=1)
    assert values == [None, pytest.approx(10, abs=0.5)]


def test_many_images_are_compared_in_parts_as_few_are(monkeypatch):
    from promptlab.scores import measures

    pictures = [noise(seed, 16) for seed in range(7)]
    whole = relate("novelty", pictures, "a" * 7)
    monkeypatch.setattr(measures, "CHUNK", 2)
    assert relate("novelty", pictures, "a" * 7) == pytest.approx(whole, nan_ok=True)


@pytest.mark.parametrize("kind", [Measure, Relative])
def test_an_unknown_measure_lists_the_known_ones(kind: type):
    with pytest.raises(ConfigError, match=r"'charm'.*(sharpness|novelty)"):
        kind("charm")
