import json

import msgspec

from bakeoff.records import Example, Split
from retrieval.embedder import Embedder
from training.data.check import CheckReport, check_examples, count_labels, find_too_long, measure_lengths
from training.data.rendering import list_findings, render_markdown, render_text

NAMES = ("Alder", "Birch", "Cedar", "Damson", "Elder", "Fir", "Ginkgo", "Hazel")


def make_splits() -> dict[Split, list[Example]]:
    """Clean train and test, and one of each trouble."""
    clean = [
        Example(
            f"t{n}",
            f"Is there parking at the {name} Hotel?",
            f"Yes, {name} has parking.",
            (),
            (f"d{n}",),
            {"label": "a"},
        )
        for n, name in enumerate(NAMES)
    ]
    test = [Example("h0", "When does the Alder Hotel serve breakfast?", "At 7, in the Alder garden.", (), ("d0",))]
    return {
        "train": [
            *clean,
            Example("empty", "?", "-"),
            Example("again", "is there parking at the alder hotel", "Yes, Alder has parking"),
            Example("other", "Is there parking at the Birch Hotel?", "No, Birch has none."),
            Example("private", "I am anna@mail.example, is there a lift?", "Yes, there is a lift."),
            Example("long", "Tell me a story " * 40, "Once upon a time."),
            Example("leak", "When is breakfast served at the Alder Hotel?", "At 7, in the Alder garden."),
            Example("german", "Wann öffnet das Museum am Sonntagmorgen für Besucher?", "Um zehn Uhr morgens."),
        ],
        "test": test,
    }


def check(embedder: Embedder) -> tuple[CheckReport, dict[Split, list[Example]]]:
    splits = make_splits()
    notes: list[str] = []
    report = check_examples(
        "d",
        splits,
        embedder.embed,
        lambda texts: [len(text.split()) for text in texts],
        lambda example: len(example.question.split()) + len(example.answer.split()) + 10,
        100,
        lambda done, total, note: notes.append(note),
    )
    assert notes[-1] == "done"
    return report, splits


def test_each_trouble_is_found_once_and_nothing_else(embedder: Embedder) -> None:
    report, _ = check(embedder)
    assert report.sizes == {"train": 15, "test": 1}
    assert report.empties == ("empty",)
    assert [one.repeated_id for one in report.duplicates] == ["again"]
    assert report.near_duplicates == ()
    assert [one.ids for one in report.conflicts] == [("t1", "other")]
    assert [(one.example_id, one.kinds) for one in report.personal] == [("private", ("E-MAIL",))]
    assert report.too_long == ("long",)
    assert [one.example_id for one in report.language.foreign] == ["german"]
    assert [(one.train_id, one.held_out_id) for one in report.leaks["test"]] == [("leak", "h0")]
    assert report.same_document == {"test": 1}
    assert report.num_findings == 7


def test_the_report_says_what_to_do_and_quotes_no_personal_data(embedder: Embedder) -> None:
    report, splits = check(embedder)
    findings = list_findings(report, splits, "d")
    for text in (render_text(report, findings), render_markdown(report, findings)):
        assert "bakeoff examples remove --domain d --leaks" in text
        assert "bakeoff examples check --domain d --scrub" in text
        assert "anna@" not in text
        assert "1 in test ask about a document" in text
    assert "anna@" not in json.dumps(msgspec.to_builtins(report))
    assert all("mend the file" in one.advice or "recipe" in one.advice for one in list_findings(report, splits, None))


def test_lengths_are_those_of_a_hand_count() -> None:
    lengths = measure_lengths([5, 1, 2, 3, 4])
    assert (lengths.shortest, lengths.median, lengths.longest) == (1, 3, 5)
    assert measure_lengths([]).longest == 0


def test_only_rows_near_the_limit_are_built() -> None:
    examples = [Example(f"e{n}", "q", "a") for n in range(100)]
    sizes = {example.id: 30 + number for number, example in enumerate(examples)}
    built: list[str] = []

    def count(example: Example) -> int:
        built.append(example.id)
        return sizes[example.id]

    found = find_too_long(examples, [sizes[one.id] - 25 for one in examples], [5] * 100, count, 120)
    assert found == tuple(f"e{n}" for n in range(91, 100))
    assert len(built) < 60


def test_labels_are_counted_by_split_and_too_many_are_none() -> None:
    splits = {
        "train": [Example("a", "q", "a", (), (), {"label": "x"})],
        "test": [Example("b", "q", "a", (), (), {"label": "x"})],
    }
    [one] = count_labels(splits, lambda example: example.tags.get("label"))
    assert (one.label, one.counts) == ("x", {"train": 1, "test": 1})
    many = {"train": [Example(str(n), "q", "a", (), (), {"label": n}) for n in range(201)]}
    assert count_labels(many, lambda example: example.tags.get("label")) == ()
