"""The detokenizer's training: it goes on, starts at the style, and has critics."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("resvg_py")

from promptlab.models.dalle import open_folder
from training import judge, train_detokenizer
from training.critics import ask_critics
from training.draw_tokens import DRAWN_FILE, DrawnTokens, draw_tokens
from training.folders import PACKAGE_DIR
from training.pictures import Pictures
from training.pixel_model import DetokenizerSize, ImageEncoder, style_of
from training.train_detokenizer import (
    draw_pixels,
    load_detokenizer,
    paper_code,
    tokens_of,
)


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    """Squares on white in three colors, which are their styles."""
    rng = np.random.default_rng(0)
    styles = np.tile([0, 1, 2], 20)
    colors = np.array([[200, 30, 30], [30, 160, 60], [40, 60, 200]])
    pixels = np.full((60, 160, 160, 3), 255, np.uint8)
    for picture, style in zip(pixels, styles, strict=True):
        row, column = rng.integers(0, 100, 2)
        picture[row : row + 60, column : column + 60] = colors[style]
    names = tuple(f"thing {number}" for number in range(20))
    held_out = np.arange(60) % 6 == 0
    made = Pictures(pixels, np.repeat(np.arange(20), 3), styles, held_out, names, ((),) * 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_detokenizer, "load_pictures", lambda: made)
        patch.setattr(train_detokenizer, "FIRST_LOOK", 12)
        yield made


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures) -> Path:
    """An encoder, its critics, and a detokenizer after one step that listened to them."""
    path = tmp_path_factory.mktemp("begun")
    size = DetokenizerSize()
    with torch.enable_grad():
        torch.manual_seed(0)
        encoder = ImageEncoder(size).state_dict()
        torch.save({"encoder": encoder, "size": asdict(size)}, path / "tokenizer.pt")
        for kind in judge.CRITICS:
            judge.train(kind, pictures, 1, 4, "cpu", path)
        train(path, 1)
    return path


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, begun: Path) -> Path:
    """The same after a second step."""
    path = tmp_path_factory.mktemp("continued") / "folder"
    shutil.copytree(begun, path)
    with torch.enable_grad():
        train(path, 2)
    return path


@pytest.fixture
def folder(tmp_path: Path, begun: Path) -> Path:
    """A copy of the training that has begun."""
    return shutil.copytree(begun, tmp_path / "folder")


def train(folder: Path, num_steps: int, drawn_share: float = 0.0) -> dict[str, torch.Tensor]:
    train_detokenizer.train(
        num_steps, 4, 1, "cpu", folder, critic_weight=0.05, drawn_share=drawn_share
    )
    return weights_of(folder)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(folder / "detokenizer.pt")["model"]
    return weights


def test_a_training_goes_on_from_its_checkpoint_and_starts_by_looking_at_the_style(
    begun, continued
):
    first, second = weights_of(begun), weights_of(continued)
    assert torch.load(continued / "detokenizer.pt")["step"] == 2
    changed = [name for name in first if not torch.equal(first[name], second[name])]
    assert changed
    assert "embedding.weight" not in changed  # the table of codes and styles is fixed
    assert float(second["decoder.up.4.attn.0.q.bias"].norm()) > 5
    detokenizer = load_detokenizer(continued / "detokenizer.pt")
    with torch.no_grad():
        drawn = detokenizer(torch.randint(0, 1000, (1, 100)))
    assert torch.isfinite(drawn).all()
    assert (continued / "detokenizer_sheet.png").is_file()


@pytest.mark.slow
def test_the_critics_have_a_say_in_what_is_learned(folder):
    listened = weights_of(folder)
    (folder / "detokenizer.pt").unlink()
    train_detokenizer.train(1, 4, 1, "cpu", folder)
    alone = weights_of(folder)
    (folder / "detokenizer.pt").unlink()
    again = train(folder, 1)
    assert any(not torch.equal(listened[name], alone[name]) for name in alone)
    assert all(torch.equal(listened[name], again[name]) for name in again)


def test_what_is_missing_is_shown_as_the_code_of_white_paper(begun):
    weights = weights_of(begun)["embedding.weight"]
    size = DetokenizerSize()
    encoder, _ = train_detokenizer.load_encoder(begun / "tokenizer.pt", "cpu")
    code = paper_code(encoder, size)
    white = tokens_of(encoder, size, torch.ones(1, 3, 160, 160), torch.tensor([4]))
    assert int(white[0, 0]) == 1000 + 4
    assert code in white[0, 1:].tolist()
    assert torch.equal(weights[size.vocab_size], weights[code])


def test_only_pictures_in_their_own_colors_are_shown_to_the_critics(pictures):
    rng = np.random.default_rng(3)
    rows = np.arange(60)
    pixels, keeps_colors = draw_pixels(pictures, rows, 160, "cpu", rng)
    assert 0.6 < float(keeps_colors.float().mean()) < 0.98
    for picture, kept, style in zip(pixels, keeps_colors, pictures.style, strict=True):
        strongest = int((1 - picture).flatten(1).mean(1).argmin())
        if kept:
            assert strongest == style


@pytest.mark.slow
def test_what_the_transformer_draws_is_learned_from_too(folder, continued, pictures):
    model = open_folder(str(PACKAGE_DIR), device="cpu", dtype="float32")
    model.load()
    drawn = draw_tokens(model, pictures, 6)
    assert np.array_equal(draw_tokens(model, pictures, 6).tokens, drawn.tokens)
    drawn.save(folder / DRAWN_FILE)
    assert np.array_equal(DrawnTokens.load(folder / DRAWN_FILE).tokens, drawn.tokens)
    styles = style_of(torch.from_numpy(drawn.tokens), DetokenizerSize())
    assert set(styles.tolist()) <= set(range(10))
    with_them = train(folder, 2, drawn_share=0.5)
    without = weights_of(continued)
    assert any(not torch.equal(with_them[name], without[name]) for name in without)


def test_drawn_tokens_without_critics_are_refused(folder):
    with pytest.raises(ValueError, match="critics"):
        train_detokenizer.train(1, 4, 1, "cpu", folder, drawn_share=0.5)


def test_critics_do_not_see_paper_and_tinting_it_costs(begun):
    critics = [judge.load_judge(kind, begun) for kind in judge.CRITICS]
    real = torch.ones(1, 3, 160, 160)
    real[:, :, 60:100, 60:100] = 0.2
    drawn = real.repeat(2, 1, 1, 1)  # the second has no real picture behind it
    styles = torch.tensor([0, 1])
    clean, no_tint = ask_critics(critics, drawn, real, styles, np.random.default_rng(0))
    tinted = drawn.clone()
    tinted[:, 0, :30] = 0.95
    same, tint = ask_critics(critics, tinted, real, styles, np.random.default_rng(0))
    assert torch.equal(clean, same)
    assert no_tint == 0
    assert tint > 0
