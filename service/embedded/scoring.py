"""Log-probabilities of given answers, by the same weights and arithmetic that serve. For proofs, not for traffic.

GenAI reports the log-probability of prompt tokens when it echoes them, but only of those it computed: a pipeline that
keeps prefixes would leave some out, so scoring opens one that does not.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.embedded.manifest import EngineManifest
from service.embedded.runtime import BLOCK_TOKENS, genai, open_pipeline, ov


def score_tokens(
    folder: Path, manifest: EngineManifest, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], num_threads: int = 0
) -> list[list[float]]:
    """Score completions token by token, one pair at a time.

    Args:
        folder: engine folder.
        manifest: of that folder.
        pairs: (prompt, completion) token ids, neither empty.
        num_threads: 0 takes every core.

    Returns:
        for each pair, the natural log-probability of each completion token given all before it.
    """
    longest = max(len(prompt) + len(completion) for prompt, completion in pairs)
    num_blocks = longest // BLOCK_TOKENS + 4
    pipeline = open_pipeline(folder, manifest.precision, num_blocks, num_threads, keeps_prefixes=False)
    config = genai.GenerationConfig()
    config.max_new_tokens = 0
    config.echo = True
    config.logprobs = 1
    config.set_eos_token_id(0)  # one is demanded, and never met: nothing is generated
    scores = []
    for number, (prompt, completion) in enumerate(pairs):
        tokens = np.array([[*prompt, *completion]], dtype=np.int64)
        handle = pipeline.add_request(number, ov.Tensor(tokens), config)
        found: list[float] = []
        while pipeline.has_non_finished_requests():
            pipeline.step()
            while handle.can_read():
                for output in handle.read().values():
                    found += output.generated_log_probs
        if len(found) != tokens.shape[1]:
            raise RuntimeError(f"scored {len(found)} of {tokens.shape[1]} tokens")
        scores.append(found[len(prompt) :])
    return scores
