"""Probabilities, completions and scores of the real model, against transformers' and trl's own, padded and alone."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from bakeoff.errors import Mismatch
from training.preferences.completions import blocks_of, completion_logps, forward_answers, write_completions
from training.preferences.encoding import Answer, encode_answer, encode_context
from training.preferences.judgements import Context
from training.preferences.label_logits import score_labels_only
from training.preferences.lora import join_changes, learned_changes
from training.preferences.policy import load_start, make_lora, put_lora, refuse_scaled_logits
from training.preferences.recipe import PreferenceRecipe
from training.preferences.reward_files import find_reward_model, write_reward_model
from training.preferences.reward_model import load_scorer, open_reward_model, save_reward_model, score_answers

MakeRecipe = Callable[..., PreferenceRecipe]
QUESTIONS = ("Is there parking?", "When is breakfast served at the hotel on a Sunday?", "Dogs?")


@pytest.fixture
def answers(tokenizer: Any) -> list[Answer]:
    """Of three lengths, prompt and completion."""
    texts = ("Yes.", "From half past seven until ten, or later if you ask.", "No dogs, sorry.")
    return [encode_answer(tokenizer, Context(question), text) for question, text in zip(QUESTIONS, texts, strict=True)]


@pytest.fixture
def model(model_dir: Path, quick_recipe: MakeRecipe) -> Any:
    """In float32, with a fresh LoRA that is not zero."""
    recipe = quick_recipe("ppo", lora_layers=2)
    model = put_lora(load_start(model_dir, torch.float32, {}, recipe), recipe, seed=0).eval()
    fill(model)
    return model


def fill(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)


def own_logps(model: Any, answer: Answer) -> torch.Tensor:
    """By transformers' forward, of one row, with every logit."""
    with torch.inference_mode():
        logits = model(torch.tensor([answer.ids])).logits[0, len(answer.prompt) - 1 : -1]
    found: torch.Tensor = torch.log_softmax(logits, -1).gather(1, torch.tensor(answer.completion)[:, None])[:, 0]
    return found


def test_log_probabilities_are_transformers_own_however_rows_are_padded(model: Any, answers: list[Answer]) -> None:
    with torch.inference_mode():
        logps, mask, _ = forward_answers(model, answers, width=20)
    assert logps.shape == mask.shape == (3, 20)
    for row, seen, answer in zip(logps, mask, answers, strict=True):
        assert int(seen.sum()) == len(answer.completion)
        torch.testing.assert_close(row[seen], own_logps(model, answer), rtol=1e-4, atol=1e-4)
        assert not row[~seen].any()
    with model.disable_adapter():
        expected = [float(own_logps(model, answer).sum()) for answer in answers]
    assert completion_logps(model, answers, is_reference=True) == pytest.approx(expected, abs=1e-3)
    assert completion_logps(model, answers) != pytest.approx(expected, abs=1e-2)


def test_labels_only_gives_what_trl_gives_gradients_included(
    model_dir: Path, answers: list[Answer], quick_recipe: MakeRecipe
) -> None:
    recipe = quick_recipe("dpo", lora_layers=2)
    base = load_start(model_dir, torch.float32, {}, recipe)
    add_fused_lm_head(base, temperature=0.7, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    model = put_lora(base, recipe, seed=0)
    fill(model)
    ids = torch.tensor([[*answer.ids, *[0] * (80 - len(answer.ids))] for answer in answers])
    seen = torch.tensor([[1] * len(answer.ids) + [0] * (80 - len(answer.ids)) for answer in answers])
    labels = torch.full((3, 80), -100)
    for row, answer in zip(labels, answers, strict=True):
        row[len(answer.prompt) : len(answer.ids)] = torch.tensor(answer.completion)

    def run() -> tuple[Any, torch.Tensor]:
        outputs = model(input_ids=ids, attention_mask=seen, labels=labels, fused_lm_head=True)
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return outputs, torch.cat([part.flatten() for part in torch.autograd.grad(outputs.log_probs.sum(), weights)])

    theirs, their_gradient = run()
    score_labels_only(model, 0.7)
    ours, our_gradient = run()
    for name in ("log_probs", "entropy", "mean_logits"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-4)
    assert torch.equal(ours.is_top1.bool(), theirs.is_top1.bool())
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-3, atol=1e-3 * float(their_gradient.abs().max()))


def test_completions_do_not_depend_on_their_neighbours_and_stop_at_the_end(model: Any, tokenizer: Any) -> None:
    prompts = [encode_context(tokenizer, Context(question)) for question in QUESTIONS]
    together = write_completions(model, tokenizer, prompts, max_tokens=6, temperature=0.0, seed=0)
    alone = [
        write_completions(model, tokenizer, [prompt], max_tokens=6, temperature=0.0, seed=0)[0] for prompt in prompts
    ]
    assert together == alone
    for answer in together:
        assert tokenizer.eos_token_id not in answer.completion[:-1]
        assert len(answer.completion) == 6 or answer.completion[-1] == tokenizer.eos_token_id
    drawn = [
        write_completions(model, tokenizer, prompts, max_tokens=6, temperature=1.0, seed=seed) for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_reward_model_scores_alike_after_saving_and_however_rows_are_padded(
    model_dir: Path, tmp_path: Path, answers: list[Answer], quick_recipe: MakeRecipe
) -> None:
    from peft import get_peft_model

    recipe = quick_recipe("reward", lora_layers=2)
    scorer = load_scorer(model_dir, torch.float32, {}, seed=3)
    trained = get_peft_model(scorer, make_lora(scorer, recipe, "SEQ_CLS")).eval()
    fill(trained)
    scores = score_answers(trained, answers)
    with torch.inference_mode():
        own = [float(trained(torch.tensor([[*answer.ids[:-1], 5]])).logits) for answer in answers]
        same = [score_answers(trained, [Answer(answer.prompt, (*answer.completion[:-1], 5))])[0] for answer in answers]
    assert same == pytest.approx(own, abs=1e-3)
    assert scores == pytest.approx([score_answers(trained, [answer])[0] for answer in answers], abs=1e-3)
    digest = write_reward_model(
        tmp_path / "reward-models",
        {"base_sha256": "b", "base_model": "m", "scale": {"mean": 1.0, "deviation": 2.0}},
        lambda folder: save_reward_model(join_changes({}, learned_changes(trained)), trained, "m", folder),
        (),
    )
    assert find_reward_model(tmp_path, digest[:8]) == find_reward_model(tmp_path, f"anywhere/{digest}") == digest
    opened, scale = open_reward_model(tmp_path / "reward-models" / digest, model_dir, "b", torch.float32)
    assert (scale.mean, scale.deviation) == (1.0, 2.0)
    assert score_answers(opened, answers) == pytest.approx(scores, abs=1e-3)
    with pytest.raises(Mismatch, match="was trained on m, which is not the base model here"):
        open_reward_model(tmp_path / "reward-models" / digest, model_dir, "other", torch.float32)


def test_blocks_hold_every_answer_once_and_a_bounded_number_of_tokens() -> None:
    answers = [Answer((1,) * length, (number,)) for number, length in enumerate((5000, 4000, 100, 100, 9000, 50))]
    blocks = [[answer.completion[0] for answer in block] for block in blocks_of(answers)]
    assert blocks == [[0], [1, 2], [3], [4], [5]]


def test_a_model_that_scales_its_logits_is_refused(model: Any) -> None:
    config = copy.copy(model.config)
    refuse_scaled_logits(config)
    config.logits_scaling = 8.0
    with pytest.raises(Mismatch, match=r"'llama' cannot learn from preferences here: .* \(logits_scaling = 8.0\)"):
        refuse_scaled_logits(config)
