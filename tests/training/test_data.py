"""The data set is built the same way every time, and its captions say what its pictures show."""

import numpy as np
import pytest
import torch

pytest.importorskip("resvg_py")
pytest.importorskip("scipy")

from promptlab.models.dalle.tokenizer import WordTokenizer
from training.augment import recolor, repeat_side_by_side, set_background, warp
from training.captions import (
    CHANGE_PATTERNS,
    Change,
    build_vocabulary,
    split_words,
    tokenize,
    write_caption,
)
from training.packed import pack, packed_path
from training.pictures import Pictures
from training.rasterize import choose_held_out, load_pictures, rasterize, rasterize_svg
from training.sources import STYLES, style_names
from training.subjects import Subject, squash, unify
from training.tokenize_images import Shard, apply_changes, draw_changes

CIRCLE = '<circle cx="8" cy="8" r="6" fill="{}"/>'
TABLE = [
    {"label": "fox", "hexcode": "1F98A", "tags": ["animal", "vulpine"], "group": 3},
    {"label": "red apple", "hexcode": "1F34E", "tags": ["fruit"], "group": 4},
    {"label": "man running", "hexcode": "1F3C3-200D-2642-FE0F", "tags": [], "group": 1},
    {"label": "flag: Japan", "hexcode": "1F1EF-1F1F5", "tags": [], "group": 9},
]


def icon_set(names: dict[str, str], chars: dict[str, str]) -> dict:
    icons = {name: {"body": CIRCLE.format(color)} for name, color in names.items()}
    return {"icons": {"icons": icons, "width": 16, "height": 16}, "chars": chars}


@pytest.fixture
def subjects() -> list[Subject]:
    documents = {
        "noto": icon_set({"fox": "orange", "red-apple": "red"}, {"1f98a": "fox"}),
        "openmoji": icon_set({"vixen": "brown", "man-running": "blue"}, {"1f98a": "vixen"}),
        "fxemoji": icon_set({"redapple": "red", "flag-for-japan": "white"}, {}),
    }
    return unify(TABLE, {}, documents, min_styles=2)


def test_a_packed_data_set_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    pictures = Pictures(
        rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8),
        np.array([0, 0, 1]),
        np.array([2, 5, 2]),
        np.array([False, True, False]),
        ("fox", "red apple"),
        (("reynard",), ()),
    )
    path = tmp_path / "pictures.npz"
    pack(pictures, packed_path(path))
    read = load_pictures(path)
    for field in ("pixels", "subject", "style", "is_held_out"):
        np.testing.assert_array_equal(getattr(read, field), getattr(pictures, field))
    assert (read.subjects, read.aliases) == (pictures.subjects, pictures.aliases)


def test_sets_are_joined_by_code_point_where_they_have_one_and_else_by_name(subjects):
    assert {s.name: sorted(s.icons) for s in subjects} == {
        "fox": ["noto", "openmoji"],
        "red apple": ["fxemoji", "noto"],
    }


def test_flags_and_gendered_variants_are_left_out(subjects):
    assert [s.name for s in subjects] == ["fox", "red apple"]


def test_a_tag_that_only_one_subject_has_becomes_a_caption_of_its_own(subjects):
    assert "vulpine" in subjects[0].aliases


def test_names_are_compared_by_letters_and_digits_alone():
    assert squash("Person: Blond Hair") == squash("person-blond-hair") == "personblondhair"


def test_a_drawing_lies_in_the_middle_of_white():
    pixels = rasterize_svg(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
        '<rect width="16" height="16" fill="#f00"/></svg>',
        size_px=32,
        margin_px=4,
    )
    assert pixels.shape == (32, 32, 3)
    assert (pixels[:4] == 255).all()
    assert (pixels[-4:] == 255).all()
    assert (pixels[4:28, 4:28] == [255, 0, 0]).all()


def test_building_twice_gives_the_same_pictures(subjects):
    first, second = (rasterize(subjects, size_px=24) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.is_held_out, second.is_held_out)
    assert [style_names()[s] for s in first.style] == ["noto", "openmoji", "noto", "fxemoji"]


def test_held_out_pairs_leave_every_subject_and_are_always_the_same():
    subject = np.repeat(np.arange(200), 7)
    held_out = choose_held_out(subject)
    np.testing.assert_array_equal(held_out, choose_held_out(subject))
    assert held_out.sum() == 70  # 5 % of 1,400
    assert np.bincount(subject[held_out]).max() == 1


def test_captions_come_from_the_generator_alone_and_stay_in_the_vocabulary():
    names, aliases = ("fox", "red apple"), (("vulpine",), ())
    vocabulary = build_vocabulary(names, aliases)
    changes = draw_changes(300, np.random.default_rng(0))
    written = []
    for _ in range(2):
        rng = np.random.default_rng(1)
        written.append(
            [
                write_caption(names[i % 2], aliases[i % 2], STYLES[i % len(STYLES)], change, rng)
                for i, change in enumerate(changes)
            ]
        )
    assert written[0] == written[1]
    assert {word for text in written[0] for word in split_words(text)} <= set(vocabulary)


@pytest.mark.parametrize("kind", [kind for kind in CHANGE_PATTERNS if kind != "none"])
def test_every_change_is_named_in_its_caption(kind):
    rng = np.random.default_rng(2)
    change = Change(kind, "blue" if kind != "count" else "two")
    captions = {write_caption("fox", (), STYLES[0], change, rng) for _ in range(50)}
    unchanged = {write_caption("fox", (), STYLES[0], Change(), rng) for _ in range(200)}
    assert not captions & unchanged


def test_plurals_share_the_number_of_their_word():
    vocabulary = build_vocabulary(("fox", "cherry", "dog"), ((), (), ()))
    assert vocabulary["foxes"] == vocabulary["fox"]
    assert vocabulary["cherries"] == vocabulary["cherry"]
    assert vocabulary["dogs"] == vocabulary["dog"]


def test_a_text_row_is_start_words_end_padding():
    rows = tokenize(["fox Nobody", ""], {"fox": 9}, length=5)
    np.testing.assert_array_equal(rows, [[0, 9, 2, 1, 1], [0, 2, 1, 1, 1]])


def test_the_engine_reads_captions_as_training_does():
    vocabulary = build_vocabulary(("fox", "red apple"), ((), ()))
    captions = ["Red_apple, in the style of noto v1!", "", "two foxes on yellow " * 9, "a xyz fox"]
    engine = WordTokenizer(vocabulary, 24)
    for row, caption in zip(tokenize(captions, vocabulary), captions, strict=True):
        assert tuple(row[row != 1]) == engine.tokenize(caption).ids


@pytest.fixture
def red_disk() -> torch.Tensor:
    row, column = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    is_inside = (row - 20) ** 2 + (column - 20) ** 2 < 100
    return torch.where(is_inside, torch.tensor([0.9, 0.1, 0.1])[:, None, None], torch.tensor(1.0))


def test_recoloring_changes_the_drawing_and_not_the_white(red_disk):
    blue = recolor(red_disk, "blue")
    assert blue[2, 20, 20] > blue[0, 20, 20]
    assert (blue[:, 0, 0] == 1).all()


def test_a_black_drawing_gets_colored_ink(red_disk):
    black = (red_disk.amin(0, keepdim=True) > 0.5).float().expand(3, 40, 40)
    green = recolor(black, "green")
    assert green[1, 20, 20] > green[0, 20, 20] + 0.2


def test_a_background_surrounds_and_does_not_cover(red_disk):
    painted = set_background(red_disk, "yellow")
    torch.testing.assert_close(painted[:, 20, 20], red_disk[:, 20, 20])
    assert painted[2, 0, 0] < 0.5


def test_warping_by_nothing_changes_nothing_and_mirroring_twice_neither(red_disk):
    batch = red_disk[None]
    torch.testing.assert_close(warp(batch, [1.0], [0.0], [[0, 0]]), batch, atol=1e-4, rtol=0)
    lopsided = torch.cat([batch[..., :20], torch.ones(1, 3, 40, 20)], -1)
    mirrored = warp(lopsided, [-1.0], [0.0], [[0, 0]])
    torch.testing.assert_close(mirrored, lopsided.flip(-1), atol=1e-4, rtol=0)


def test_two_copies_have_half_the_ink_of_one(red_disk):
    ink = (1 - red_disk).sum()
    assert 0.4 < float((1 - repeat_side_by_side(red_disk, 2)).sum() / ink) < 0.6


def test_changes_depend_on_the_generator_alone(red_disk):
    batch = red_disk.expand(40, 3, 40, 40)
    drawn = [
        apply_changes(batch, draw_changes(40, np.random.default_rng(3)), np.random.default_rng(4))
        for _ in range(2)
    ]
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)


def test_a_shard_comes_back_as_it_was_saved(tmp_path):
    shard = Shard(
        np.array([3, 5]), np.array([[1, 2], [999, 0]]), (Change("color", "blue"), Change())
    )
    shard.save(tmp_path / "000.npz")
    again = Shard.load(tmp_path / "000.npz")
    np.testing.assert_array_equal(again.tokens, shard.tokens)
    np.testing.assert_array_equal(again.row, shard.row)
    assert again.changes == shard.changes
