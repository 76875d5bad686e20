"""Random numbers and sampling: a function of the request, with min-dalle's distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from promptlab.models.dalle import rng, upstream
from promptlab.models.dalle.sampling import BROKEN, RUN, sample, supercondition

NUM_DRAWS = 2_000
TOGETHER = 250  # draws in one call: rows of 16,384 logits


def draw(
    logits: torch.Tensor, temperature: float, top_k: int, uniforms: np.ndarray
) -> torch.Tensor:
    """Draw one token of the same logits for every uniform."""
    tokens = []
    for chunk in torch.from_numpy(uniforms)[:, None].split(TOGETHER):
        num = len(chunk)
        settings = torch.full((num, 1), temperature), torch.full((num, 1), top_k)
        tokens.append(sample(logits.expand(num, -1), *settings, chunk, top_k))
    return torch.cat(tokens)


def test_philox_gives_the_published_numbers() -> None:
    # Known answers of Random123's kat_vectors for philox4x32-10.
    def words(*values: int) -> tuple[np.ndarray, ...]:
        return tuple(np.array([value], dtype=np.uint64) for value in values)

    zeros = rng.philox(words(0, 0, 0, 0), words(0, 0))  # type: ignore[arg-type]
    assert [int(word[0]) for word in zeros] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    pi = rng.philox(
        words(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),  # type: ignore[arg-type]
        words(0xA4093822, 0x299F31D0),  # type: ignore[arg-type]
    )
    assert [int(word[0]) for word in pi] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_a_seed_gives_the_same_numbers_beside_any_others() -> None:
    alone = rng.uniforms([7], 100)
    assert np.array_equal(rng.uniforms([1, 7, -3, 2**63], 100)[1:2], alone)
    assert np.array_equal(rng.uniforms([7], 256)[:, :100], alone)


def test_seeds_and_steps_are_independent_and_uniform() -> None:
    numbers = rng.uniforms(range(400), 256)
    assert numbers.min() > 0.0
    assert numbers.max() < 1.0
    assert len(np.unique(numbers)) == numbers.size
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    lagged = [numbers[:, :-1].ravel(), numbers[:, 1:].ravel()]
    assert abs(np.corrcoef(lagged)[0, 1]) < 0.01
    assert abs(np.corrcoef([numbers[:-1].ravel(), numbers[1:].ravel()])[0, 1]) < 0.01


def test_large_and_negative_seeds_differ() -> None:
    seeds = [0, 1, -1, 2**32, 2**63]
    assert len({float(row[0]) for row in rng.uniforms(seeds, 1)}) == len(seeds)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 256), (0.5, 40), (2.0, 5)])
def test_the_distribution_is_that_of_min_dalle(
    temperature: float, top_k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.randn(2**14, generator=torch.Generator().manual_seed(1))
    logits[100:110] = logits.topk(top_k).values[-1]  # ties at the threshold are all kept
    expected = min_dalle_likelihoods(logits, temperature, top_k, monkeypatch)
    assert top_k < int((expected > 0).sum()) <= top_k + 10
    uniforms = (np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS
    counts = draw(logits, temperature, top_k, uniforms).bincount(minlength=2**14)
    assert counts[expected == 0].sum() == 0
    # Evenly spaced draws meet each token as often as its share says, rounded either way.
    share = NUM_DRAWS * expected.double() / expected.double().sum()
    assert (counts - share).abs().max() <= 1 + 1e-3


def min_dalle_likelihoods(
    logits: torch.Tensor, temperature: float, top_k: int, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    """Return the weights from which min-dalle draws a token of these logits."""

    class Given:
        """Stands for the network: returns these logits, whatever the factor."""

        def forward(self, num_images: int) -> tuple[torch.Tensor, None]:
            return logits.expand(2 * num_images, 1, -1).clone(), None

    drawn_from: list[torch.Tensor] = []
    real = torch.multinomial

    def multinomial(weights: torch.Tensor, num_samples: int) -> torch.Tensor:
        drawn_from.append(weights)
        return real(weights, num_samples)

    monkeypatch.setattr(torch, "multinomial", multinomial)
    decoder_class = upstream.import_min_dalle().DalleBartDecoder
    settings = torch.tensor([temperature, top_k, 1.0])
    with torch.random.fork_rng(devices=[]):
        decoder_class.sample_tokens(Given(), settings, num_images=1)
    (weights,) = drawn_from
    return weights[0]


def test_a_draw_inverts_the_cumulative_distribution_at_any_point_of_the_unit_interval() -> None:
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(2)) * 3
    probabilities = logits[0].double().softmax(-1).numpy()
    ends = probabilities.cumsum()
    # Just inside every token's share, at its beginning and at its end.
    is_wide = probabilities > 1e-5
    inside = np.concatenate(
        [(ends - probabilities * share)[is_wide] for share in (0.98, 0.5, 0.02)]
    )
    expected = np.tile(np.flatnonzero(is_wide), 3)
    assert draw(logits[0], 1.0, 300, inside).tolist() == expected.tolist()


def test_top_k_of_one_is_greedy() -> None:
    logits = torch.randn(50, 96)
    uniforms = torch.rand(50, 1, dtype=torch.float64)
    ones = torch.ones(50, 1)
    assert torch.equal(sample(logits, ones, ones.long(), uniforms, 1), logits.argmax(-1))


def test_only_the_k_likeliest_are_drawn_even_at_the_ends_of_the_unit_interval() -> None:
    logits = torch.randn(96)
    for uniform in (2.0**-49, 1 - 2.0**-49):
        token = draw(logits, 0.01, 3, np.array([uniform]))
        assert token.item() in logits.topk(3).indices.tolist()


def test_a_draw_beyond_a_runs_rounded_sum_takes_its_last_token() -> None:
    logits = torch.randn(1, 2 * RUN, generator=torch.Generator().manual_seed(4))
    for first in logits.unbind():  # until a run's sum is rounded up
        while True:
            likelihoods = first.softmax(-1).unflatten(-1, (2, RUN))
            rounded, exact = likelihoods.sum(-1).double()[0], likelihoods.double().sum(-1)[0]
            if rounded > exact * (1 + 1e-9):
                break
            first.add_(torch.randn(2 * RUN))
    ends = likelihoods.sum(-1).cumsum(-1, dtype=torch.float64)
    uniform = (rounded + exact) / 2 / ends[-1]
    assert draw(logits[0], 1.0, 2 * RUN, np.array([uniform.item()])).tolist() == [RUN - 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_has_no_token_and_leaves_the_others_alone(bad: float) -> None:
    logits = torch.randn(3, 2 * RUN, generator=torch.Generator().manual_seed(5))
    ones, uniforms = torch.ones(3, 1), torch.full((3, 1), 0.5, dtype=torch.float64)
    expected = sample(logits, ones, 9 * ones.long(), uniforms, 9)
    logits[1, 7] = bad
    tokens = sample(logits, ones, 9 * ones.long(), uniforms, 9)
    assert tokens.tolist() == [expected[0], BROKEN, expected[2]]


def test_a_row_ignores_the_settings_of_other_rows() -> None:
    logits = torch.randn(4, 96)
    temperature = torch.tensor([[1.0], [0.3], [2.0], [1.0]])
    top_k = torch.tensor([[96], [2], [1], [7]])
    uniforms = torch.rand(4, 1, dtype=torch.float64)
    together = sample(logits, temperature, top_k, uniforms, 96)
    for row in range(4):
        one = slice(row, row + 1)
        alone = sample(logits[one], temperature[one], top_k[one], uniforms[one], int(top_k[row]))
        assert alone.item() == together[row].item()


def test_superconditioning_is_that_of_min_dalle() -> None:
    unconditional, conditional = torch.randn(3, 9), torch.randn(3, 9)
    factor = torch.tensor([[16.0], [1.0], [0.0]])
    mixed = supercondition(unconditional, conditional, factor)
    assert torch.allclose(mixed, unconditional * (1 - factor) + conditional * factor)
    assert torch.equal(mixed[1], conditional[1])
    assert torch.equal(mixed[2], unconditional[2])
