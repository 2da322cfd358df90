"""`bakeoff examples split`: cut validation and test from a domain's training examples."""

from collections import Counter
from typing import cast

import click

from bakeoff.cli.examples import embed_train, load_splits
from bakeoff.cli.output import domain_option, json_option, print_json, say
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BadInput, NotReady
from bakeoff.examples import replace_examples
from bakeoff.records import Example, Split

MAX_SHOWN_LABELS = 10


@click.command("split")
@domain_option()
@click.option("--validation", default=0.1, show_default=True, type=click.FloatRange(0, 0.9), help="Share of train.")
@click.option("--test", default=0.2, show_default=True, type=click.FloatRange(0, 0.9), help="Share of train.")
@click.option("--seed", required=True, type=int, help="The same seed and examples give the same splits.")
@click.option(
    "--by",
    default="document",
    show_default=True,
    type=click.Choice(("document", "example")),
    help="What stays together: all examples about one document, or only those that repeat each other.",
)
@click.option("--again", is_flag=True, help="Put existing validation and test splits back into train first.")
@json_option()
def split_command(domain: str, validation: float, test: float, seed: int, by: str, again: bool, as_json: bool) -> None:
    """Move a part of the domain's training examples into validation and test.

    Drawn by the seed, spread over the labels (tag `label`, else the task) as evenly as the groups allow. Adding
    examples later and splitting --again may move others too.
    """
    from training.data.splitting import Grouping, assign_splits

    shares: dict[Split, float] = {"validation": validation, "test": test}
    if not any(shares.values()):
        raise click.UsageError("Nothing to split: --validation and --test are both 0.")
    workspace = Workspace()
    splits = load_splits(workspace, domain)
    wanted = [split for split, share in shares.items() if share > 0]
    existing = [split for split in wanted if splits[split]]
    if existing and not again:
        raise BadInput(
            f"domain {domain!r} has {len(splits[existing[0]])} {existing[0]} examples already; to draw anew, which "
            f"mixes them with train: bakeoff examples split --domain {domain} --seed {seed} --again"
        )
    pool = splits["train"] + [example for split in existing for example in splits[split]]
    if not pool:
        raise NotReady(
            f"domain {domain!r} has no training examples; import some with: "
            f"bakeoff examples import FILE --domain {domain} --split train"
        )
    assigned = assign_splits(pool, shares, seed, cast("Grouping", by))
    now: dict[str, Split] = {example.id: split for split in splits for example in splits[split]}
    moved = [(assigned[example.id], example) for example in pool if assigned[example.id] != now[example.id]]
    with workspace.engine.begin() as connection:
        replace_examples(connection, domain, moved)
    if any(split == "train" for split, _ in moved):
        embed_train(workspace, domain)
    after = load_splits(workspace, domain)
    if as_json:
        print_json({"moved": len(moved), "sizes": {split: len(found) for split, found in after.items()}})
        return
    click.echo(f"{domain}: {', '.join(f'{len(found)} in {split}' for split, found in after.items())}")
    for line in _balance(after):
        click.echo(f"  {line}")
    say(f"Keep the seed ({seed}): with it and the same examples anybody gets these splits.")


def _balance(splits: dict[Split, list[Example]]) -> list[str]:
    """Share of each label in each split, the most frequent labels first; none where there is but one."""
    from training.data.splitting import stratum_of

    counts = {split: Counter(map(stratum_of, examples)) for split, examples in splits.items() if examples}
    total = sum(counts.values(), Counter[str]())
    if len(total) < 2:
        return []
    rows = [
        f"{label:30} " + "  ".join(f"{split} {count[label] / count.total():6.1%}" for split, count in counts.items())
        for label, _ in total.most_common(MAX_SHOWN_LABELS)
    ]
    return rows + ([f"... {len(total)} labels in all"] if len(total) > MAX_SHOWN_LABELS else [])
