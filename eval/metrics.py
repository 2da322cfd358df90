"""Scores of one completion against its example, each a pure function of text, in [0, 1] or None.

In: what a mode wrote, without its citation markers, and the example it answers. Out: a score for each metric; None
means that the metric says nothing about this example, never that the answer was wrong. Overlap scores (token F1, exact
match, ROUGE-L) reward style as well as facts; polarity and key values (their own modules) cannot be bought by style.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from bakeoff.prompts import is_abstention, strip_markers
from bakeoff.records import Example
from eval.key_values import key_values
from eval.polarity import polarity

SCORES = ("token_f1", "exact_match", "rouge_l", "polarity", "key_values", "recall_at_5", "abstained")
"""Scores per example, in the order in which they are shown."""
MEASURES = ("latency_ms", "prompt_tokens", "completion_tokens")
"""What an answer cost, measured rather than scored."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score_completion(
    completion: str, example: Example, document_ids: Sequence[str] | None = None, *, abstained: bool = False
) -> dict[str, float | None]:
    """Score a completion by every metric of `SCORES`.

    Args:
        completion: as the mode wrote it; citation markers are taken out here.
        example: the best of its targets counts for the overlap scores.
        document_ids: documents of the passages, best first; None for a mode without retrieval.
        abstained: whether the service declined by itself; a model's own "I don't know" is found in the text.
    """
    text = strip_markers(completion)
    targets = example_targets(example)
    return {
        "token_f1": token_f1(text, targets),
        "exact_match": exact_match(text, targets),
        "rouge_l": rouge_l(text, targets),
        "polarity": polarity(text, example),
        "key_values": key_values(text, example.question, targets),
        "recall_at_5": recall_at(5, document_ids, example.document_ids),
        "abstained": float(abstained or is_abstention(text)),
    }


def example_targets(example: Example) -> tuple[str, ...]:
    """Every acceptable target of an example, `answer` first, each once."""
    return tuple(dict.fromkeys((example.answer, *example.answers)))


def token_f1(completion: str, targets: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of normalised words, best over the targets.

    Source: Rajpurkar et al. 2016 (SQuAD); two texts that are both empty once normalised count as equal, as in the
    script of SQuAD 2.0.
    """
    return _best(_pair_f1, completion, targets)


def exact_match(completion: str, targets: Sequence[str]) -> float:
    """1 when the normalised completion equals a normalised target, else 0.

    Source: Rajpurkar et al. 2016 (SQuAD).
    """
    return _best(lambda text, target: float(normalise_answer(text) == normalise_answer(target)), completion, targets)


def rouge_l(completion: str, targets: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of words, best over the targets.

    Words are runs of a-z and 0-9 in the lowercased text, without stemming, as in the package `rouge-score`.

    Source: Lin 2004, section 3, with beta = 1.
    """
    return _best(_pair_rouge_l, completion, targets)


def recall_at(num_passages: int, found: Sequence[str] | None, relevant: Sequence[str]) -> float | None:
    """Share of the relevant documents that stand among the first passages.

    Args:
        num_passages: how many passages count (the k of recall@k).
        found: documents of the passages, best first, a document once for each of its passages; empty when retrieval
            found nothing, which scores 0; None when the mode does not retrieve.
        relevant: documents that hold the answer; empty gives None.
    """
    if found is None or not relevant:
        return None
    wanted = set(relevant)
    return len(wanted & set(found[:num_passages])) / len(wanted)


def normalise_answer(text: str) -> str:
    """Lowercase, then take out ASCII punctuation, articles and extra spaces, as the SQuAD script does."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _best(score: Callable[[str, str], float], completion: str, targets: Sequence[str]) -> float:
    assert targets, "an example has at least one target"
    return max(score(completion, target) for target in targets)


def _pair_f1(completion: str, target: str) -> float:
    ours, theirs = normalise_answer(completion).split(), normalise_answer(target).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return _f_measure(shared, len(ours), len(theirs))


def _pair_rouge_l(completion: str, target: str) -> float:
    ours, theirs = (re.findall(r"[a-z0-9]+", text.lower()) for text in (completion, target))
    return _f_measure(_subsequence_length(ours, theirs), len(ours), len(theirs))


def _f_measure(shared: int, num_ours: int, num_theirs: int) -> float:
    if shared == 0:
        return 0.0
    precision, recall = shared / num_ours, shared / num_theirs
    return 2 * precision * recall / (precision + recall)


def _subsequence_length(left: Sequence[str], right: Sequence[str]) -> int:
    lengths = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for position, other in enumerate(right, start=1):
            above = lengths[position]
            lengths[position] = diagonal + 1 if word == other else max(above, lengths[position - 1])
            diagonal = above
    return lengths[-1]
