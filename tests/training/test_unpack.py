"""A model folder is enough to go on from: its weights, and codes learned anew against them."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("resvg_py")

from training import train_encoder
from training.export import collect_state
from training.folders import PACKAGE_DIR
from training.pictures import Pictures
from training.pixel_model import Detokenizer, DetokenizerSize
from training.rasterize import choose_held_out
from training.tokenize_images import load_encoder
from training.train_tokenizer import picture_loss
from training.unpack import unpack


def test_what_is_unpacked_and_collected_again_is_what_was_shipped(tmp_path):
    from promptlab.models.dalle.weights import open_tensors

    unpack(PACKAGE_DIR, tmp_path)
    collected = collect_state(tmp_path)
    with open_tensors(PACKAGE_DIR) as shipped:
        assert collected.keys() == set(shipped)
        for name, tensor in shipped.items():
            assert torch.equal(collected[name], tensor), name


def test_existing_checkpoints_are_not_replaced(tmp_path):
    (tmp_path / "detokenizer.pt").write_bytes(b"hours of work")
    with pytest.raises(FileExistsError, match="continue from it, or delete it"):
        unpack(PACKAGE_DIR, tmp_path)
    assert (tmp_path / "detokenizer.pt").read_bytes() == b"hours of work"
    assert not (tmp_path / "transformer.pt").exists()


@pytest.fixture
def pictures() -> Pictures:
    """Black squares on white, somewhere."""
    rng = np.random.default_rng(0)
    pixels = np.full((66, 160, 160, 3), 255, np.uint8)
    for picture in pixels:
        row, column = rng.integers(0, 100, 2)
        picture[row : row + 60, column : column + 60] = rng.integers(0, 256, 3)
    subject = np.repeat(np.arange(33), 2)
    names = tuple(f"thing {number}" for number in range(33))
    held_out = choose_held_out(subject, share=0.4)
    return Pictures(pixels, subject, np.tile([0, 1], 33), held_out, names, ((),) * 33)


@pytest.mark.slow
def test_an_encoder_learns_the_codes_of_a_detokenizer_that_stays_as_it_is(
    tmp_path: Path, pictures: Pictures
):
    unpack(PACKAGE_DIR, tmp_path)
    before = (tmp_path / "detokenizer.pt").read_bytes()
    train_encoder.train(pictures, 3, 4, "cpu", tmp_path, checkpoint_every=2)
    assert (tmp_path / "detokenizer.pt").read_bytes() == before
    encoder, size = load_encoder(tmp_path / "tokenizer.pt", "cpu")
    detokenizer = Detokenizer(size)
    real = torch.from_numpy(pictures.pixels[:4]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        drawn, tokens = train_encoder.encode_decode(
            encoder, detokenizer, size, real, torch.from_numpy(pictures.style[:4])
        )
    assert size == DetokenizerSize()
    assert tokens.shape == (4, 100)
    assert torch.isfinite(picture_loss(drawn, real))
