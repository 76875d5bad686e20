"""Training of the scorer: its negatives are hard, and its loss forgives what is not wrong."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("resvg_py")

from promptlab.scores.tiny_match.network import MatchSize
from training import train_match
from training.captions import Change
from training.folders import PACKAGE_DIR
from training.pictures import Pictures
from training.rasterize import choose_held_out
from training.train_match import STYLELESS, Texts, draw_texts, subject_loss, train

SIZE = MatchSize(
    text_width=16,
    num_heads=2,
    subject_px=40,
    style_px=40,
    subject_widths=(8, 8),
    style_widths=(8, 8),
    palette_width=8,
    subject_dim=16,
    style_dim=8,
)


@pytest.fixture
def pictures() -> Pictures:
    subject = np.repeat(np.arange(12), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (36, 40, 40, 3)).astype(np.uint8)
    names = ("fox", "rose", "car", "tree", "bird", "fish", "hat", "cup", "key", "bed", "pig", "sun")
    held_out = choose_held_out(subject, share=0.2)
    return Pictures(pixels, subject, np.tile([0, 1, 2], 12), held_out, names, ((),) * 12)


def test_a_batch_holds_its_own_texts_first_then_other_colors_and_other_subjects_in_its_styles(
    pictures,
):
    vocabulary = json.loads((PACKAGE_DIR / "vocab.json").read_text("utf-8"))
    rows = np.array([0, 1, 3, 4])
    changes = [Change("color", "red"), Change(), Change(), Change("background", "blue")]
    texts = draw_texts(pictures, vocabulary, rows, changes, np.random.default_rng(3))
    assert texts.subject[:4].tolist() == [0, 0, 1, 1]
    assert texts.change[:4] == tuple(changes)
    assert set(texts.style[:4]) <= {0, 1, STYLELESS}
    colors = [
        change.value
        for subject, change in zip(texts.subject[4:], texts.change[4:], strict=True)
        if subject == 0 and change.kind == "color"
    ]
    assert len(set(colors)) == train_match.NUM_OTHER_COLORS
    assert "red" not in colors
    plain = [n for n in range(4, len(texts.subject)) if texts.change[n].kind == "none"]
    assert set(texts.subject[plain]) == set(range(12))
    assert set(texts.style[plain]) <= {0, 1, STYLELESS}, "the styles of the batch"


def loss_of(likings: list[float]) -> float:
    """Return the loss of a red fox's picture that likes three texts so much."""
    changes = (Change("color", "red"), Change("color", "blue"), Change())
    texts = Texts(np.zeros((3, 1), int), np.array([0, 0, 0]), np.array([0, 0, 0]), changes)
    logits = torch.tensor([likings])
    return float(subject_loss(logits, texts, 1))


def test_another_color_is_wrong_of_a_picture_and_its_subject_alone_is_not():
    assert loss_of([5.0, -5.0, 5.0]) < 0.01
    assert loss_of([5.0, -5.0, 50.0]) < 0.01, "a red fox is a fox"
    assert loss_of([-5.0, 5.0, -5.0]) > 5


class StoppedError(Exception):
    pass


def test_a_training_that_was_stopped_ends_with_the_same_weights(pictures, tmp_path, monkeypatch):
    def weights(folder):
        model = train(pictures, 4, 4, folder, checkpoint_every=2, size=SIZE)
        return model.state_dict()

    show, shown = train_match.show, []

    def show_until_stopped(*args):
        shown.append(1)
        if len(shown) == 4:  # in the fourth step: after the checkpoint of the second
            raise StoppedError
        return show(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train_match, "show", show_until_stopped)
        with pytest.raises(StoppedError):
            weights(tmp_path / "stopped")
    resumed, straight = weights(tmp_path / "stopped"), weights(tmp_path / "straight")
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_held_out_pictures_are_never_shown_while_training(pictures, tmp_path, monkeypatch):
    show, shown = train_match.show, set()

    def note(pictures, rows, *rest):
        shown.update(rows.tolist())
        return show(pictures, rows, *rest)

    monkeypatch.setattr(train_match, "show", note)
    train(pictures, 6, 8, tmp_path, size=SIZE)
    assert shown
    assert not pictures.is_held_out[list(shown)].any()
