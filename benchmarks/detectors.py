"""How much planted dirt the data detectors find, and how often they cry wolf on clean data.

    python -m benchmarks.detectors --data FOLDER [--set NAME] [--seed N] [--show FILE]

Into the training examples of each data set, seeded: held-out questions as they are (exact), with small changes (near),
reworded by rule and by hand (`paraphrases.jsonl`, written before the first run and not changed since); copies of
training examples; personal data. Recall is the share of planted examples found, with the held-out question or the
training example they came from; a false alarm is an unplanted example that a detector names. Some of these are true
repeats of the data set: `--show` writes every one to be judged by eye.

The thresholds were chosen on training questions of concierge and nq_open, before the first planting (seed 0). After it
came corrections, each run on a fresh seed: labels ask for literal copies and more evidence, because a quarter of
banking77 was named; courtesies and slips are undone before comparing; numbers beside numbers are found. So recall of
paraphrases outside banking77 is a blind figure; recall of slips, courtesies and national numbers, and everything about
banking77, is not.
"""

import argparse
import random
import time
from pathlib import Path

import msgspec

from bakeoff.example_files import read_examples
from bakeoff.models import find_embedder
from bakeoff.records import Example
from bakeoff.settings import Settings
from benchmarks.planting import plant_copies, plant_leaks, plant_personal
from retrieval.embedder import open_embedder
from training.data.duplicates import find_conflicts, find_exact, find_near
from training.data.language import find_foreign
from training.data.leaks import Embed, find_leaks
from training.data.personal import example_texts, find_personal

SETS = ("concierge", "nq_open", "banking77", "gov_services", "pubmedqa")


def main() -> None:
    """Plant, look, and print one block per data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets, each with train and test.jsonl")
    parser.add_argument("--set", action="append", choices=SETS, help="only this one (may be repeated)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=Path, help="write every alarm on unplanted data, and every miss, to this file")
    parser.add_argument("--no-documents", action="store_true", help="drop document_ids: many teams have none")
    arguments = parser.parse_args()
    settings = Settings()
    embedder = open_embedder(find_embedder(settings), settings.embedder, settings.models / "embedders")
    embedder.embed(["warm up"])
    shown: list[str] = []
    for name in arguments.set or SETS:
        splits = [read_examples(arguments.data / name / f"{split}.jsonl") for split in ("train", "test")]
        if arguments.no_documents:
            splits = [[msgspec.structs.replace(one, document_ids=()) for one in examples] for examples in splits]
        shown += measure(name, *splits, embedder.embed, random.Random(f"{arguments.seed} {name}"))  # noqa: S311 - draws what is planted
    if arguments.show is not None:
        arguments.show.write_text("\n".join(shown) + "\n", encoding="utf-8")


def measure(name: str, train: list[Example], held_out: list[Example], embed: Embed, dice: random.Random) -> list[str]:
    """Print recall of each planted kind and false alarms of each detector; return what to look at by eye."""
    shown: list[str] = []
    ours, theirs = ({one.id: one for one in examples} for examples in (train, held_out))
    print(f"{name}: {len(train)} training and {len(held_out)} held-out examples")
    start = time.perf_counter()
    natural = find_leaks(train, held_out, embed)
    seconds = time.perf_counter() - start
    for kind in ("exact", "near", "paraphrase"):
        flagged = {leak.train_id for leak in natural if leak.kind == kind}
        print(f"  clean  leak {kind:20} {len(flagged):4} of train, {len(flagged) / len(train):6.2%}")
    flagged = {leak.train_id for leak in natural}
    given_away = {leak.held_out_id for leak in natural}
    print(
        f"  clean  leak {'any':20} {len(flagged):4} of train, {len(flagged) / len(train):6.2%}; "
        f"{len(given_away)} of held-out, {len(given_away) / len(held_out):.2%}   [{seconds:.1f} s, embedding included]"
    )
    shown += [
        f"{name} leak {leak.kind} {leak.similarity:.2f}\t{ours[leak.train_id].question} => "
        f"{ours[leak.train_id].answer[:60]}\t{theirs[leak.held_out_id].question} => "
        f"{theirs[leak.held_out_id].answer[:60]}"
        for leak in natural
    ]
    repeats = {"exact duplicate": find_exact(train), "near duplicate": find_near(train)}
    for kind, found in repeats.items():
        print(f"  clean  {kind:25} {len(found):4} of train, {len(found) / len(train):6.2%}")
        shown += [f"{name} {kind}\t{ours[r.kept_id].question}\t{ours[r.repeated_id].question}" for r in found]
    conflicts = find_conflicts(train)
    print(f"  clean  {'conflict':25} {len(conflicts):4} questions")
    shown += [f"{name} conflict\t{one.question}\t{' | '.join(one.answers)}" for one in conflicts]
    foreign = find_foreign(train).foreign
    print(f"  clean  {'language':25} {len(foreign):4} of train, {len(foreign) / len(train):6.2%}")
    shown += [f"{name} language {one.language}\t{ours[one.example_id].question}" for one in foreign]
    personal = [(one, text) for one in train for text in example_texts(one) if find_personal(text)]
    print(f"  clean  {'personal data':25} {len(personal):4} of train, {len(personal) / len(train):6.2%}")
    shown += [f"{name} personal\t{text}\t{find_personal(text)}" for _, text in personal]

    leaks = plant_leaks(name, held_out, dice)
    dirty = [*train, *(example for pairs in leaks.values() for example, _ in pairs)]
    pairs_found = {(leak.train_id, leak.held_out_id) for leak in find_leaks(dirty, held_out, embed)}
    for kind, pairs in leaks.items():
        missed = [(one, source) for one, source in pairs if (one.id, source) not in pairs_found]
        _print_recall(f"leak {kind}", len(pairs), len(missed))
        shown += [f"{name} MISSED leak {kind}\t{one.question}\t{theirs[source].question}" for one, source in missed]
    copies = plant_copies(train, dice)
    dirty = [*train, *(example for pairs in copies.values() for example, _ in pairs)]
    found_ids = {repeat.repeated_id for repeat in (*find_exact(dirty), *find_near(dirty))}
    for kind, pairs in copies.items():
        missed = [(one, source) for one, source in pairs if one.id not in found_ids]
        _print_recall(kind, len(pairs), len(missed))
        shown += [f"{name} MISSED {kind}\t{one.question}\t{ours[source].question}" for one, source in missed]
    for kind, examples in plant_personal(train, dice).items():
        unseen = [
            one
            for one in examples
            if not any(finding.kind == kind for text in example_texts(one) for finding in find_personal(text))
        ]
        _print_recall(f"personal {kind}", len(examples), len(unseen))
        shown += [f"{name} MISSED personal {kind}\t{one.question}\t{one.answer}" for one in unseen]
    return shown


def _print_recall(kind: str, planted: int, missed: int) -> None:
    share = f"{(planted - missed) / planted:7.1%}" if planted else "      -"
    print(f"  found  {kind:25} {planted - missed:4} of {planted:3} planted {share}", flush=True)


if __name__ == "__main__":
    main()
