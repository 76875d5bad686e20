"""Training can be stopped at any checkpoint, and its judges count what they say they count."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("scipy")
pytest.importorskip("resvg_py")

from training import judge, optimizer, train_transformer
from training.captions import Change
from training.choose_sampling import trained_pairs
from training.evaluate import (
    held_out_pairs,
    is_color,
    main_hue,
    nearest_training_rows,
    one_pair_a_subject,
    score_best,
)
from training.judge import Judges, rank_of
from training.optimizer import Muon, lr_scale, orthogonalize
from training.pictures import Pictures
from training.rasterize import choose_held_out
from training.tokenize_images import Shard
from training.train_transformer import TokenLoss


@pytest.fixture
def pictures() -> Pictures:
    subject = np.repeat(np.arange(12), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (36, 40, 40, 3)).astype(np.uint8)
    names = tuple(f"thing {chr(97 + i)}" for i in range(12))
    held_out = choose_held_out(subject, share=0.2)
    return Pictures(pixels, subject, np.tile([0, 1, 2], 12), held_out, names, ((),) * 12)


@pytest.fixture
def folder(tmp_path: Path, pictures: Pictures) -> Path:
    tokens = np.random.default_rng(1).integers(0, 1000, (36, 9))
    Shard(np.arange(36), tokens, (Change(),) * 36).save(tmp_path / "shards" / "000.npz")
    torch.save({"size": {"image_grid": 3}}, tmp_path / "tokenizer.pt")
    return tmp_path


class StoppedError(Exception):
    pass


def run_to_the_end(pictures: Pictures, folder: Path) -> dict[str, torch.Tensor]:
    sizes = {"width": 32, "num_heads": 2, "glu_width": 48, "num_decoder_layers": 2}
    train_transformer.train(pictures, 4, 4, "cpu", folder, dropout=0.1, checkpoint_every=2, **sizes)
    return torch.load(folder / "transformer.pt")["average"]["shadow"]


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    pictures, folder, tmp_path, monkeypatch
):
    draw = train_transformer.CaptionedTokens.draw
    drawn: list[int] = []

    def draw_until_stopped(self, rows, rng):
        drawn.append(1)
        if len(drawn) == 4:  # in the fourth step: after the checkpoint of the second
            raise StoppedError
        return draw(self, rows, rng)

    with monkeypatch.context() as patch:
        patch.setattr(train_transformer.CaptionedTokens, "draw", draw_until_stopped)
        with pytest.raises(StoppedError):
            run_to_the_end(pictures, folder)
    resumed = run_to_the_end(pictures, folder)
    (folder / "transformer.pt").unlink()
    straight = run_to_the_end(pictures, folder)
    assert resumed.keys() == straight.keys()
    for name, weights in straight.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)


def test_mistakes_are_bounded_and_come_from_the_generator():
    tokens = torch.full((200, 100), 7)
    first, second = (
        train_transformer.make_mistakes(tokens, 1000, 0.5, np.random.default_rng(5))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    wrong = (first != tokens).float().mean(1)
    assert 0.2 < float(wrong.mean()) < 0.3
    assert float(wrong.max()) < 0.7
    assert torch.equal(
        train_transformer.make_mistakes(tokens, 1000, 0.0, np.random.default_rng(5)), tokens
    )


def test_the_loss_and_its_gradient_are_the_smoothed_cross_entropys():
    torch.manual_seed(0)
    logits = torch.randn(600, 50, requires_grad=True)  # more rows than one piece
    targets = torch.randint(0, 50, (600,))
    loss = TokenLoss.apply(logits, targets, 0.1)
    (ours,) = torch.autograd.grad(loss, logits)
    plain = torch.nn.functional.cross_entropy(logits, targets)
    smoothed = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    (theirs,) = torch.autograd.grad(smoothed, logits)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)).float())
    assert float(values.min()) > 0.4
    assert float(values.max()) < 1.5


def test_a_stack_of_matrices_is_orthogonalized_as_each_of_them_is():
    torch.manual_seed(0)
    stack = torch.randn(3, 40, 16)
    together = orthogonalize(stack).float()
    for matrix, update in zip(stack, together, strict=True):
        torch.testing.assert_close(orthogonalize(matrix).float(), update, rtol=0, atol=0.02)


def test_muon_takes_the_same_step_with_matrices_of_one_shape_together(monkeypatch):
    def step(stacks_of):
        monkeypatch.setattr(optimizer, "stacks_of", stacks_of)
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(shape)) for shape in ((8, 6), (4, 2, 3), (8, 6))]
        for weight in weights:
            weight.grad = torch.randn(weight.shape)
        Muon(weights, lr=0.1).step()
        return weights

    one_by_one = step(lambda grads: [[0], [1], [2]])
    together = step(lambda grads: [[0, 2], [1]])
    for first, second in zip(one_by_one, together, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=2e-3)


def test_muon_descends():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 8))
    target = torch.randn(8, 8)
    optimizer = Muon([weight], lr=0.05)
    start = (weight - target).square().mean().item()
    for _ in range(100):
        (weight - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (weight - target).square().mean().item() < 0.1 * start


def test_the_learning_rate_rises_holds_and_falls_to_zero():
    scales = [lr_scale(step, 1000, num_warmup=100, decay_share=0.3) for step in range(1001)]
    assert scales[0] < 0.02
    assert scales[100:700] == [1.0] * 600
    assert scales[1000] == 0.0
    assert scales[700:] == sorted(scales[700:], reverse=True)


def disk(color: tuple[int, int, int]) -> np.ndarray:
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[8:24, 8:24] = color
    return pixels


@pytest.mark.parametrize(
    ("color", "word"),
    [
        ((220, 30, 30), "red"),
        ((240, 140, 20), "orange"),
        ((250, 210, 40), "yellow"),
        ((40, 160, 60), "green"),
        ((40, 100, 220), "blue"),
        ((140, 50, 200), "purple"),
        ((250, 130, 190), "pink"),
    ],
)
def test_a_colors_name_is_found_from_its_pixels(color, word):
    assert main_hue(disk(color)) == word
    assert is_color(word, disk(color))
    assert not is_color("blue" if word != "blue" else "red", disk(color))


def test_a_drawing_in_black_has_no_color():
    assert main_hue(disk((0, 0, 0))) == ""


def test_ranks_count_the_classes_above_the_right_one():
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 0.0]])
    np.testing.assert_array_equal(rank_of(logits, np.array([0, 0])), [2, 0])


def test_the_nearest_training_picture_of_a_training_picture_is_itself(pictures):
    rows = np.flatnonzero(~pictures.is_held_out)[:5]
    np.testing.assert_array_equal(nearest_training_rows(pictures, pictures.pixels[rows]), rows)


def test_trained_pairs_take_every_subject_once_and_no_held_out_pair(pictures):
    rows = one_pair_a_subject(pictures)
    assert sorted(pictures.subject[rows]) == list(range(12))
    assert not pictures.is_held_out[rows].any()


def test_samples_of_pairs_are_the_same_every_time_and_of_the_right_kind(pictures):
    held_out = held_out_pairs(pictures, 4)
    assert len(held_out) == 4
    assert pictures.is_held_out[held_out].all()
    np.testing.assert_array_equal(held_out_pairs(pictures, 4), held_out)
    for_sampling = trained_pairs(pictures, 5)
    assert len(set(pictures.subject[for_sampling])) == 5
    assert not pictures.is_held_out[for_sampling].any()


@pytest.mark.parametrize("kind", list(judge.RECIPES))
def test_a_judge_learns_from_where_it_stopped(pictures, tmp_path, kind):
    judge.train(kind, pictures, 1, 4, "cpu", tmp_path)
    first = torch.load(tmp_path / f"judge_{kind}.pt")
    asked = judge.train(kind, pictures, 2, 4, "cpu", tmp_path)
    second = torch.load(tmp_path / f"judge_{kind}.pt")
    assert (first["steps"], second["steps"]) == (1, 3)
    assert not torch.equal(first["weights"]["head.weight"], second["weights"]["head.weight"])
    num_classes = 12 if kind == "subject" else 3
    assert judge.ask(asked, pictures.pixels[:2]).shape == (2, num_classes)
    name = "subject_top1" if kind == "subject" else "style"
    assert 0 <= judge.score_held_out(pictures, kind, asked)[name] <= 1


def test_best_of_eight_takes_the_candidate_with_the_best_subject_rank(monkeypatch):
    from training import evaluate

    subject = torch.zeros(16, 3)
    subject[:, 1] = 1.0  # every candidate looks like subject 1 ...
    subject[5, 0] = 2.0  # ... but one of the first cell like subject 0
    style = torch.zeros(16, 2)
    judges = Judges(subject=nn.Identity(), style=nn.Identity())
    answers = {judges.subject: subject, judges.style: style}
    monkeypatch.setattr(evaluate, "ask", lambda judge, pixels: answers[judge])
    trial = evaluate.Trial(("a", "b"), np.array([0, 2]), np.array([0, 0]))
    scores = score_best(np.zeros((16, 1, 1, 3), np.uint8), trial, judges)
    assert scores["best_top1"] == 0.5
    assert scores["single_top1"] == 1 / 16
