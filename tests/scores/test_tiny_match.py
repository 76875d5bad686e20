"""The packaged scorer tells subjects and styles apart, each by itself, and says when it cannot."""

import json

import numpy as np
import pytest

from promptlab.models.dalle import open_folder
from promptlab.models.registry import packaged_words
from promptlab.records import Request
from promptlab.report.shares import find_shares
from promptlab.scores.bias import audit, describe_audit
from promptlab.scores.measures import Look
from promptlab.scores.protocol import Item
from promptlab.scores.registry import default_scorers, open_embedder, open_scorer
from promptlab.scores.summary import write_summary
from promptlab.scores.tiny_match.scorer import WEIGHTS, TinyMatch, TinyVectors
from tests.report.runs import make_run
from tests.scores.scorers import noise

SUBJECTS = ("cat", "watermelon", "house", "red heart")
STYLES = ("noto", "openmoji", "fluent high contrast")


@pytest.fixture(scope="module")
def drawn() -> dict[tuple[str, str], np.ndarray]:
    """A picture of every subject in every style, by the embedded model."""
    model = open_folder(str(packaged_words()["tiny/subjects"].parent), dtype="float32")
    params = {name: parameter.default for name, parameter in model.parameters.items()}
    model.load()
    requests = [
        Request(f"{subject}|{style}", f"a {subject} in the style of {style}", 0, params)
        for subject in SUBJECTS
        for style in STYLES
    ]
    found = {}
    for result in model.draw(requests):
        subject, style = result.request.image_id.split("|")
        found[subject, style] = result.pixels
    return found


@pytest.fixture(scope="module")
def scorers() -> dict[str, TinyMatch]:
    both = {kind: TinyMatch(kind) for kind in ("subject", "style")}
    for scorer in both.values():
        scorer.load()
    return both


def score(scorer: TinyMatch, prompt: str, *pictures: np.ndarray) -> list[float | None]:
    items = [Item({"image_id": "", "prompt": prompt}, pixels) for pixels in pictures]
    return [each.value for each in scorer.score(items)]


def test_the_weights_are_small_and_of_half_precision():
    from safetensors import safe_open

    assert WEIGHTS.stat().st_size <= 4_000_000
    with safe_open(WEIGHTS, framework="pt") as file:
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.float16"}  # noqa: SIM118


def test_most_pictures_fit_their_own_subject_best(drawn, scorers):
    pictures = list(drawn.values())
    table = [score(scorers["subject"], f"a {subject}", *pictures) for subject in SUBJECTS]
    best = [SUBJECTS[i] for i in np.array(table).argmax(0)]
    hits = sum(own == subject for own, (subject, _) in zip(best, drawn, strict=True))
    assert hits >= 9, "of twelve"


def test_most_pictures_fit_their_own_style_best(drawn, scorers):
    pictures = list(drawn.values())
    prompts = [f"a thing in the style of {style}" for style in STYLES]
    table = [score(scorers["style"], prompt, *pictures) for prompt in prompts]
    best = [STYLES[i] for i in np.array(table).argmax(0)]
    assert sum(own == style for own, (_, style) in zip(best, drawn, strict=True)) >= 10


def test_the_subject_of_a_prompt_does_not_change_what_is_said_of_its_style(drawn, scorers):
    picture = drawn["cat", "noto"]
    said = [score(scorers["style"], f"a {s} in the style of noto", picture)[0] for s in SUBJECTS]
    assert min(said) > score(scorers["style"], "a cat in the style of openmoji", picture)[0]


def test_another_color_fits_worse(drawn, scorers):
    picture = drawn["red heart", "noto"]
    red, blue = (score(scorers["subject"], f"a {c} heart", picture)[0] for c in ("red", "blue"))
    assert red > blue


def test_a_prompt_that_names_nothing_known_has_no_score(scorers):
    assert score(scorers["subject"], "an xyzzy in the style of noto", noise(0)) == [None]
    assert score(scorers["style"], "a cat", noise(0)) == [None]
    assert score(scorers["style"], "a cat in the style of monet", noise(0)) == [None]
    assert score(scorers["style"], "a cat in the style of noto", noise(0)) != [None]
    assert score(scorers["style"], "a cat as a comic outline", noise(0)) != [None]


def test_an_image_has_the_same_score_alone_and_beside_any_others(drawn, scorers):
    pictures = list(drawn.values())
    for kind, scorer in scorers.items():
        together = score(scorer, "a cat in the style of noto", *pictures, *pictures)
        alone = [score(scorer, "a cat in the style of noto", each)[0] for each in pictures]
        assert together == pytest.approx([*alone, *alone], abs=1e-6), kind


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 200, 3), (333, 160, 3)])
def test_images_of_any_size_are_scored(scorers, shape):
    (value,) = score(scorers["subject"], "a cat", np.full(shape, 200, np.uint8))
    assert 0 <= value <= 1


def test_they_are_the_default_of_what_tiny_drew():
    assert [open_scorer(name).name for name in default_scorers(["tiny"])] == [
        "tiny_subject",
        "tiny_style",
    ]


def test_the_vectors_for_taste_are_what_the_network_sees(drawn):
    vectors = TinyVectors()
    vectors.load()
    seen = vectors.embed(list(drawn.values()))
    assert seen.shape == (12, 160)
    assert open_embedder("tiny").fingerprint == vectors.fingerprint


def test_the_audit_counts_the_nearest_word_of_every_image(tmp_path):
    from promptlab.store import read_run

    class Eye(Look):
        """Sees red and blue alone."""

        name = "eye"

        def embed(self, pixels):
            means = np.array([each.reshape(-1, 3).mean(0) for each in pixels], np.float32)
            return means[:, [0, 2]] - means[:, [2, 0]]

        def read(self, prompts):
            return np.array([[1, 0] if "red" in p else [0, 1] for p in prompts], np.float32)

    root = make_run(tmp_path / "a", subjects=("a fox", "a robot"), styles=("noto",), num_seeds=9)
    rows = audit(read_run(root), Eye(), ["red", "blue"])
    shares = {(r.value, r.measure): r for r in rows}
    assert shares["all", "share of red"].num_images == 18
    for value in ("all", "a fox", "a robot"):
        red, blue = (shares[value, f"share of {word}"] for word in ("red", "blue"))
        assert red.estimate + blue.estimate == pytest.approx(1)
        assert red.low <= red.estimate <= red.high
    text = "\n".join(describe_audit(rows))
    assert "nearest words by eye" in text
    assert "and no more" in text
    write_summary(root, rows)
    (on_page,) = find_shares([read_run(root)])
    assert "what eye sees" in on_page["warning"]
    assert [group["name"] for group in on_page["groups"]] == ["all images", "a fox", "a robot"]
    for group in on_page["groups"]:
        first, second = (share for _, share, *_ in group["words"])
        assert first >= second
    write_summary(root)
    assert find_shares([read_run(root)]) == [on_page], "scores renewed without words keep them"


def test_an_audit_with_what_reads_no_words_is_refused(project):
    project.run("sweep", "-m", "subject=a fox")
    done = project.run("score", "--words", "red,blue", "--no-report", "--no-sync")
    assert done.code == 1
    assert "reads no words" in done.err
    assert json.dumps("Traceback") not in done.err
