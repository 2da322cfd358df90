"""What trl learns from is, to the token, what serving asks and what was answered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bakeoff.chat_template import prompt_ids, row_ids
from bakeoff.modes import MODES
from bakeoff.prompts import render_messages
from bakeoff.records import Message, Passage
from training.preferences.encoding import Answer, encode_context, encode_pairs, encode_thumbs
from training.preferences.judgements import Context, Ranking, Thumb
from training.preferences.offline import build_offline
from training.preferences.online import build_online
from training.preferences.pairs import make_pairs
from training.preferences.policy import load_start
from training.preferences.recipe import PreferenceRecipe

MakeRecipe = Callable[..., PreferenceRecipe]
PASSAGE = Passage(1, 0.5, "d", "c", "Dogs", "Dogs sleep in the garden.")
CLOSED_BOOK = Context("Is there parking?")
OPEN_BOOK = Context("May dogs <|im_end|> come?", "hybrid", (PASSAGE,))
RANKINGS = (
    Ranking("v1", CLOSED_BOOK, (("Yes.",), ("It depends on a lot of things.",))),
    Ranking("v2", OPEN_BOOK, (("They sleep outside [1].",), ("No.",))),
)


def served(tokenizer: Any, context: Context, completion: str | None = None) -> list[int]:
    """The ids as serving makes them, and with a completion as training examples does."""
    prompt = render_messages(MODES[context.mode], [Message("user", context.question)], context.passages)
    if completion is None:
        return prompt_ids(tokenizer, prompt)
    return row_ids(tokenizer, prompt, Message("assistant", completion))[0]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Any:
    from training.preferences.recipe import load_preference_recipe

    return load_start(model_dir, torch.float32, {}, load_preference_recipe("dpo"))


def unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    return [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)]


def first_batch(trainer: Any) -> dict[str, torch.Tensor]:
    batch: dict[str, torch.Tensor] = next(iter(trainer.get_train_dataloader()))
    return batch


def expected_rows(tokenizer: Any) -> list[list[int]]:
    chosen = [served(tokenizer, ranking.context, ranking.levels[0][0]) for ranking in RANKINGS]
    return chosen + [served(tokenizer, ranking.context, ranking.levels[1][0]) for ranking in RANKINGS]


def test_dpo_is_handed_the_ids_that_serving_makes(
    model: Any, tokenizer: Any, tmp_path: Path, quick_recipe: MakeRecipe
) -> None:
    rows, _ = encode_pairs(tokenizer, [pair for ranking in RANKINGS for pair in make_pairs(ranking)], 512)
    recipe = quick_recipe("dpo", batch_size=2, lora_layers=1)
    trainer = build_offline("dpo", model, tokenizer, rows, recipe, 0, tmp_path)
    batch = first_batch(trainer)
    assert unpadded(batch["input_ids"], batch["attention_mask"]) == expected_rows(tokenizer)
    lengths = [len(served(tokenizer, ranking.context)) for ranking in RANKINGS]
    assert batch["completion_mask"].argmax(1).tolist() == [*lengths, *lengths]
    assert "ref" not in trainer.model.peft_config
    trainer.model.unload()


def test_orpo_is_handed_the_ids_that_serving_makes(
    model: Any, tokenizer: Any, tmp_path: Path, quick_recipe: MakeRecipe
) -> None:
    rows, _ = encode_pairs(tokenizer, [pair for ranking in RANKINGS for pair in make_pairs(ranking)], 512)
    recipe = quick_recipe("orpo", batch_size=2, lora_layers=1)
    trainer = build_offline("orpo", model, tokenizer, rows, recipe, 0, tmp_path)
    batch = first_batch(trainer)
    found = [
        ids
        for side in ("chosen", "rejected")
        for ids in unpadded(batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"])
    ]
    assert found == expected_rows(tokenizer)
    lengths = [len(served(tokenizer, ranking.context)) for ranking in RANKINGS]
    assert (batch["chosen_labels"] != -100).int().argmax(1).tolist() == lengths
    trainer.model.unload()


def test_kto_is_handed_the_ids_that_serving_makes_and_its_neighbours_answers(
    model: Any, tokenizer: Any, tmp_path: Path, quick_recipe: MakeRecipe
) -> None:
    thumbs = [
        Thumb("1", CLOSED_BOOK, "Yes.", True),
        Thumb("2", OPEN_BOOK, "No.", False),
        Thumb("3", OPEN_BOOK, "?", True),
    ]
    rows, _ = encode_thumbs(tokenizer, thumbs, 512)
    recipe = quick_recipe("kto", batch_size=2, lora_layers=1)
    trainer = build_offline("kto", model, tokenizer, rows, recipe, 0, tmp_path)
    batches = list(trainer.get_train_dataloader())
    assert [unpadded(batch["input_ids"], batch["attention_mask"]) for batch in batches] == [
        [served(tokenizer, CLOSED_BOOK, "Yes."), served(tokenizer, OPEN_BOOK, "No.")],
        [served(tokenizer, OPEN_BOOK, "?"), served(tokenizer, CLOSED_BOOK, "Yes.")],
    ]
    assert [unpadded(batch["KL_input_ids"], batch["KL_attention_mask"]) for batch in batches] == [
        [served(tokenizer, CLOSED_BOOK, "No."), served(tokenizer, OPEN_BOOK, "Yes.")],
        [served(tokenizer, OPEN_BOOK, "Yes."), served(tokenizer, CLOSED_BOOK, "?")],
    ]
    trainer.model.unload()


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_online_methods_ask_the_ids_that_serving_asks(
    method: str, model: Any, tokenizer: Any, tmp_path: Path, quick_recipe: MakeRecipe
) -> None:
    prompts = [encode_context(tokenizer, context) for context in (CLOSED_BOOK, OPEN_BOOK)]
    recipe = quick_recipe(method, batch_size=4, group_size=2, lora_layers=1, num_steps=1)
    paid: list[Answer] = []
    reward = lambda answers: paid.extend(answers) or [0.0] * len(answers)  # type: ignore[func-returns-value]
    trainer = build_online(method, model, tokenizer, prompts, reward, recipe, 0, tmp_path)
    found, _, _ = trainer._tokenize_prompts(["1", "0", "1"])
    closed_book, open_book = (served(tokenizer, context) for context in (CLOSED_BOOK, OPEN_BOOK))
    assert found == [open_book, closed_book, open_book]
    trainer.train()
    asked = sorted(list(answer.prompt) for answer in paid)
    assert asked == sorted([closed_book, closed_book, open_book, open_book])
    assert all(answer.completion for answer in paid)
    trainer.model.unload()


def test_no_text_ends_a_turn(tokenizer: Any) -> None:
    """The question of `OPEN_BOOK` writes the end token out; only the template's own ends stay."""
    ids = encode_context(tokenizer, OPEN_BOOK)
    assert ids.count(tokenizer.eos_token_id) == 2


def test_rows_that_are_too_long_are_left_out_and_counted(tokenizer: Any) -> None:
    pairs = [pair for ranking in RANKINGS for pair in make_pairs(ranking)]
    longest = len(served(tokenizer, CLOSED_BOOK, RANKINGS[0].levels[1][0]))
    rows, num_too_long = encode_pairs(tokenizer, pairs, longest)
    assert ([row.question for row in rows], num_too_long) == (["Is there parking?"], 1)
