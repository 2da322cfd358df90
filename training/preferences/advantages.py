"""The arithmetic of PPO, without a model: rewards by token -> advantages, and the two clipped losses.

All tensors are (completions, tokens), padded behind the end of a completion; masks are true on its tokens.
"""

import torch


def token_rewards(
    scores: torch.Tensor, logps: torch.Tensor, reference_logps: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """Pay the score at the last token, and at every token charge for moving away from the reference.

    Args:
        scores: (completions,).
        logps: of the tokens, by the model that wrote them.
        beta: price of a nat; the charge, beta * (log p - log p of the reference), is on average the KL divergence.

    Source: Ziegler et al. 2019, section 2.1.
    """
    rewards = -beta * (logps - reference_logps) * mask
    last = mask.sum(1) - 1
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def estimate_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gae_lambda: float, gamma: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Credit rewards to the tokens before them (generalised advantage estimation).

    Args:
        values: what the value head expected before each token.
        gae_lambda: 0 credits one step back, 1 all the way.

    Returns:
        (advantages, returns), both 0 outside the mask.

    Source: Schulman et al. 2016, equation 16; returns are advantages + values, as in Huang et al. 2024.
    """
    advantages = torch.zeros_like(rewards)
    later = torch.zeros_like(rewards[:, 0])
    for token in range(rewards.shape[1] - 1, -1, -1):
        here = mask[:, token].to(rewards.dtype)
        if token + 1 < rewards.shape[1]:
            following = values[:, token + 1] * mask[:, token + 1]
        else:
            following = torch.zeros_like(later)
        surprise = rewards[:, token] + gamma * following - values[:, token]
        later = (surprise + gamma * gae_lambda * later) * here
        advantages[:, token] = later
    return advantages, (advantages + values) * mask


def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Shift and scale to mean 0 and variance 1 over the mask; 0 outside it."""
    inside = values[mask]
    scaled: torch.Tensor = (values - inside.mean()) / (inside.std(unbiased=False) + 1e-8) * mask
    return scaled


def policy_loss(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The clipped surrogate: no gain for moving a token's probability by more than `clip`.

    Returns:
        (mean over the tokens, share of the tokens whose gradient was cut off).

    Source: Schulman et al. 2017, equation 7, negated.
    """
    ratio = torch.exp(logps - old_logps)
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(free, clipped)[mask].mean(), (clipped > free)[mask].float().mean()


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float
) -> torch.Tensor:
    """Half the squared error of the value head, which may not move by more than `clip` from what it said before.

    Source: Huang et al. 2024, the details that are shared with their 37 of PPO.
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)[mask].mean()


def divergence(logps: torch.Tensor, reference_logps: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean over completions of the estimated KL divergence to the reference, in nats per completion."""
    return float(((logps - reference_logps) * mask).sum(1).mean())
