"""The modules that are trained compute what min-dalle computes, and carry its weight names."""

import pytest
import torch
from torch import nn

pytest.importorskip("min_dalle")
pytest.importorskip("resvg_py")
pytest.importorskip("scipy")

from min_dalle.models import DalleBartDecoder, DalleBartEncoder
from min_dalle.models import vqgan_detokenizer as upstream_pixels

from training.model import Dropout, TextToTokens, TransformerSize
from training.pixel_model import (
    Detokenizer,
    DetokenizerSize,
    ImageEncoder,
    Middle,
    ResnetBlock,
    UpLevel,
    code_table,
    mark_style,
    quantize,
    token_table,
    vectors_of,
)
from training.style_attention import look_at_style
from training.train_tokenizer import LightDecoder

SIZE = TransformerSize(
    text_vocab_size=50,
    image_vocab_size=40,
    num_image_tokens=256,  # min-dalle's is fixed
    text_length=12,
    num_encoder_layers=2,
    num_decoder_layers=2,
    width=32,
    num_heads=4,
    glu_width=48,
)


@pytest.fixture(autouse=True)
def _gradients_on():
    # Importing min_dalle turns gradients off for the whole process.
    with torch.enable_grad():
        yield


@pytest.fixture
def ours() -> TextToTokens:
    torch.manual_seed(0)
    model = TextToTokens(SIZE)
    for param in model.parameters():  # norms that are not the identity, too
        nn.init.normal_(param, std=0.3)
    return model.eval()


@pytest.fixture
def upstream(ours: TextToTokens) -> tuple[DalleBartEncoder, DalleBartDecoder]:
    encoder = DalleBartEncoder(2, 32, 4, 50, 12, 48, "cpu")
    decoder = DalleBartDecoder(40, 32, 4, 48, 2, "cpu")
    encoder.load_state_dict(ours.encoder.state_dict())
    decoder.load_state_dict(ours.decoder.state_dict())
    return encoder, decoder


def test_logits_of_all_positions_equal_min_dalles_step_by_step(ours, upstream):
    encoder, decoder = upstream
    text = torch.tensor([[0, 2] + [1] * 10, [0, 7, 8, 9, 2] + [1] * 7])
    tokens = torch.randint(0, 40, (1, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = ours(text, tokens.repeat(2, 1))
        memory = encoder(text)
        mask = text.not_equal(1)[:, None, None, :]
        state = torch.zeros(2, 4, 256, 32)
        previous = torch.full((1,), SIZE.start_token)
        for position in range(6):
            theirs, state = decoder(
                attention_mask=mask,
                encoder_state=memory,
                attention_state=state,
                prev_tokens=previous[:, None],
                token_index=torch.tensor([position]),
            )
            torch.testing.assert_close(logits[:, position], theirs[:, -1], rtol=1e-4, atol=1e-4)
            previous = tokens[:, position]


def test_padding_of_the_text_changes_no_logit(ours):
    tokens = torch.arange(8)[None]
    short = torch.tensor([[0, 5, 6, 2]])
    padded = torch.tensor([[0, 5, 6, 2, 1, 1, 1]])
    with torch.no_grad():
        torch.testing.assert_close(ours(short, tokens), ours(padded, tokens))


def test_no_logit_depends_on_a_later_token(ours):
    text = torch.tensor([[0, 5, 2]])
    tokens = torch.arange(10)[None]
    changed = tokens.clone()
    changed[0, 6:] = 39
    with torch.no_grad():
        before, after = ours(text, tokens), ours(text, changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_pixel_blocks_equal_min_dalles():
    x = torch.randn(1, 512, 4, 4, generator=torch.Generator().manual_seed(2))
    pairs = [
        (Middle(512, 32), upstream_pixels.MiddleLayer()),
        (ResnetBlock(512, 256, 32), upstream_pixels.ResnetBlock(9, 8)),
        (UpLevel(512, 256, 3, 32, False, False), upstream_pixels.UpsampleBlock(9, 8, False, True)),
        (UpLevel(512, 512, 3, 32, True, False), upstream_pixels.UpsampleBlock(9, 9, True, True)),
    ]
    for mine, theirs in pairs:
        theirs.load_state_dict(mine.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(mine(x), theirs(x.clone()), rtol=1e-4, atol=1e-4)


def test_the_detokenizers_table_holds_exactly_what_the_quantizer_writes():
    levels = (8, 5, 4)
    z = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(3)) * 3
    codes, tokens = quantize(z, levels)
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) < 160
    looked_up = code_table(levels)[tokens].transpose(1, 2).unflatten(2, (5, 5))
    torch.testing.assert_close(looked_up, codes)


def test_vectors_of_codes_and_a_style_are_those_of_the_marked_tokens():
    size = DetokenizerSize((4, 4), 3, (16, 8, 8), 1, norm_groups=4, image_grid=5)
    z = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(3)) * 3
    codes, tokens = quantize(z, size.levels)
    styles = torch.tensor([2, 0])
    marked = mark_style(tokens, styles, size)
    assert torch.equal(marked[:, 0], 16 + styles)
    assert torch.equal(marked[:, 1:], tokens[:, 1:])
    looked_up = token_table(size)[marked].transpose(1, 2).unflatten(2, (5, 5))
    torch.testing.assert_close(vectors_of(codes, styles, size), looked_up)


def test_a_detokenizers_attention_can_begin_by_looking_at_the_style():
    size = DetokenizerSize()
    torch.manual_seed(4)
    detokenizer = Detokenizer(size)
    styles = torch.randint(0, size.num_styles, (40,))
    tokens = mark_style(torch.randint(0, size.num_codes, (40, 100)), styles, size)
    assert look_at_style(detokenizer, tokens) > 0.9
    attention = detokenizer.decoder.up[-1].attn[-1]
    with torch.no_grad():  # what it adds depends on the style as much at every place
        nn.init.normal_(attention.proj_out.weight)
        seen = []
        attention.register_forward_hook(lambda module, given, made: seen.append(made - given[0]))
        for style in (3, 7):
            detokenizer(mark_style(tokens[:1], torch.tensor([style]), size))
    difference = (seen[0] - seen[1]).flatten(2).norm(dim=1)
    assert float(difference.min()) > 0.5 * float(difference.max())


def test_what_is_not_drawn_yet_looks_like_the_code_that_is_said():
    size = DetokenizerSize((4, 4), 3, (16, 8, 8), 1, norm_groups=4, image_grid=5)
    detokenizer = Detokenizer(size)
    detokenizer.show_missing_as(6)
    tokens = torch.randint(0, 16, (1, 25), generator=torch.Generator().manual_seed(5))
    missing = torch.arange(25) > 12
    start_token = size.vocab_size  # as the engine fills what is missing
    with torch.no_grad():
        shown = detokenizer(torch.where(missing, start_token, tokens))
        meant = detokenizer(torch.where(missing, 6, tokens))
    torch.testing.assert_close(shown, meant)


def test_a_detokenizer_draws_its_stated_size():
    size = DetokenizerSize((4, 4), 2, (16, 8, 8), 1, norm_groups=4, image_grid=3)
    pixels = Detokenizer(size)(torch.zeros(2, 9, dtype=torch.long))
    assert pixels.shape == (2, 3, size.image_size_px, size.image_size_px) == (2, 3, 12, 12)


def test_pooled_dropout_keeps_the_mean_and_differs_between_calls():
    dropout, ones = Dropout(0.25), torch.ones(200, 1000)
    first, second = dropout(ones), dropout(ones)
    assert abs(first.mean().item() - 1) < 0.02
    assert abs((first == 0).float().mean().item() - 0.25) < 0.02
    assert not torch.equal(first, second)
    assert dropout.eval()(ones) is ones


@pytest.mark.parametrize("grid", [10, 16])
def test_tokenizer_and_detokenizer_agree_on_the_grid(grid):
    size = DetokenizerSize.of_grid(grid)
    pixels = torch.rand(1, 3, size.image_size_px, size.image_size_px)
    with torch.no_grad():
        codes, tokens = quantize(ImageEncoder(size)(pixels), size.levels)
        assert tokens.shape == (1, grid * grid)
        assert LightDecoder(size)(codes).shape == pixels.shape
        assert Detokenizer(size)(tokens).shape == pixels.shape
