"""PPO's arithmetic against figures worked out by hand."""

import math

import pytest
import torch

from training.preferences.advantages import (
    divergence,
    estimate_advantages,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)

MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_the_score_is_paid_at_the_last_token_and_divergence_is_charged_at_each() -> None:
    logps = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, 0.0]])
    reference = torch.tensor([[-1.5, -2.0, -2.0], [-1.0, -3.0, 0.0]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), logps, reference, MASK, beta=0.1)
    expected = torch.tensor([[-0.05, 0.0, 10.1], [0.0, 19.8, 0.0]])
    torch.testing.assert_close(rewards, expected)


def test_advantages_are_those_of_the_recursion_written_out() -> None:
    """With lambda 0.5, from the last token back: A3 = 2 - 3, A2 = 1 + 3 - 2 + A3/2, A1 = 0 + 2 - 1 + A2/2."""
    rewards = torch.tensor([[0.0, 1.0, 2.0], [4.0, 6.0, 99.0]])
    values = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 99.0]])
    advantages, returns = estimate_advantages(rewards, values, MASK, gae_lambda=0.5)
    torch.testing.assert_close(advantages, torch.tensor([[1.75, 1.5, -1.0], [7.0, 4.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[2.75, 3.5, 2.0], [8.0, 6.0, 0.0]]))


def test_lambda_of_one_credits_the_whole_rest_and_lambda_of_zero_one_step() -> None:
    rewards, values = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.5, 1.0, 2.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    whole, _ = estimate_advantages(rewards, values, mask, gae_lambda=1.0)
    torch.testing.assert_close(whole, torch.tensor([[6.5, 5.0, 2.0]]))
    step, _ = estimate_advantages(rewards, values, mask, gae_lambda=0.0)
    torch.testing.assert_close(step, torch.tensor([[1.5, 3.0, 2.0]]))
    discounted, _ = estimate_advantages(rewards, values, mask, gae_lambda=1.0, gamma=0.5)
    torch.testing.assert_close(discounted, torch.tensor([[1 + 1 + 1 - 0.5, 2 + 2 - 1.0, 2.0]]))


def test_whitening_looks_at_the_mask_alone() -> None:
    white = whiten(torch.tensor([[1.0, 3.0, 5.0], [3.0, 3.0, 1000.0]]), MASK)
    spread = math.sqrt(8 / 5)
    torch.testing.assert_close(white, torch.tensor([[-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]]) / spread)


def test_the_surrogate_is_clipped_on_the_side_that_gains() -> None:
    """Ratios 1.5 and 0.5: a gain beyond 1.2 (0.8) is cut off, a loss is not."""
    logps = torch.log(torch.tensor([[1.5, 1.5, 0.5, 0.5]])).requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    loss, clipped = policy_loss(logps, torch.zeros(1, 4), advantages, mask, clip=0.2)
    assert float(loss.detach()) == pytest.approx((-1.2 + 1.5 - 0.5 + 0.8) / 4)
    assert float(clipped) == 0.5
    (gradient,) = torch.autograd.grad(loss, logps)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 1.5, -0.5, 0.0]]) / 4)


def test_the_value_may_not_gain_by_moving_beyond_the_clip() -> None:
    """Old value 0, return 1: a new value of 0.5 is judged at 0.2; one of -0.5 where it is."""
    mask = torch.ones(1, 2, dtype=torch.bool)
    loss = value_loss(torch.tensor([[0.5, -0.5]]), torch.zeros(1, 2), torch.ones(1, 2), mask, clip=0.2)
    assert float(loss) == pytest.approx(0.5 * (0.8**2 + 1.5**2) / 2)


def test_divergence_is_summed_over_tokens_and_averaged_over_completions() -> None:
    logps = torch.tensor([[-1.0, -1.0, -1.0], [-2.0, -2.0, 5.0]])
    assert divergence(logps, torch.full((2, 3), -2.0), MASK) == pytest.approx(1.5)
