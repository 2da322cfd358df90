"""Attention for training on CPUs: two plain matrix products, with little kept for the backward pass.

The CPU kernel behind PyTorch's SDPA is slow backwards on short rows, and transformers' eager attention keeps a float32
copy of every attention map and repeats the keys and values of grouped heads. This one does neither. It is registered
beside transformers' own and reached by name, so no model is patched.
"""

from typing import Any

import torch

from bakeoff.errors import Mismatch

NAME = "bakeoff_training"
_VARIANTS = ("softcap", "s_aux")
"""Words by which transformers hands an attention over what only some architectures have."""


def register_attention() -> str:
    """Make the attention known to transformers; return the name to load a model with."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
    **variants: Any,
) -> tuple[torch.Tensor, None]:
    """Attend with grouped heads (Ainslie et al. 2023) without repeating keys or values.

    Args:
        module: the layer that calls; unused.
        query: (rows, heads, tokens, size).
        key: (rows, groups, tokens, size), where groups divides heads; value alike.
        attention_mask: (rows or 1, 1, tokens, tokens), added to the scores: 0 where a token may look.
        scaling: of the scores.
        dropout: has to be 0: the base model is frozen and in eval mode.

    Returns:
        ((rows, tokens, heads, size), None).

    Raises:
        Mismatch: the architecture wants a form of attention that this one is not.
    """
    used = [name for name in _VARIANTS if variants.get(name) is not None]
    if used or dropout:
        raise Mismatch(f"this base model cannot be trained here: its attention uses {used or 'dropout'}")
    rows, heads, tokens, size = query.shape
    groups = key.shape[1]
    by_group = (query * scaling).reshape(rows, groups, -1, size)  # heads of one group stand one after another
    scores = torch.matmul(by_group, key.transpose(2, 3)).view(rows, heads, tokens, tokens)
    weights = torch.softmax(scores + attention_mask, dim=-1)
    attended = torch.matmul(weights.view(rows, groups, -1, tokens), value)
    return attended.view(rows, heads, tokens, size).transpose(1, 2).contiguous(), None
