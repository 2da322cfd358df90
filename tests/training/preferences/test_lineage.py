"""What a training learned from stays on record, its parents' too, and so does who may see it."""

from bakeoff.records import Passage
from training.preferences.judgements import Context, Preferences, Ranking, Thumb
from training.preferences.lineage import inherit_leaks, trace_lineage

SHOWN = Passage(1, 0.5, "shown", "c", "Dogs", "No dogs.")
LEARNED = Preferences(
    (Ranking("v", Context("Q?", "hybrid", (SHOWN,)), (("a",), ("b",)), example_id="e1", document_ids=("named",)),),
    (Thumb("t", Context("R?"), "a", is_up=True, example_id="e2"),),
)
START = {
    "lineage": {
        "documents": ["old", "shown"],
        "groups": {"old": ["hr"], "shown": ["everyone"]},
        "examples": ["e0"],
        "synthetic_examples": ["e0"],
    },
    "leaks": [{"held_out_id": "h"}],
}
REWARD = {"lineage": {"documents": ["judged"], "examples": ["e1"]}, "leaks": [{"held_out_id": "h"}]}


def test_everything_named_shown_or_inherited_is_in_the_lineage() -> None:
    lineage = trace_lineage(LEARNED, [START, REWARD], lambda _: {})
    assert lineage["documents"] == ["judged", "named", "old", "shown"]
    assert lineage["examples"] == ["e0", "e1", "e2"]
    assert lineage["synthetic_examples"] == ["e0"]


def test_groups_are_those_of_now_and_where_nothing_is_known_those_on_record() -> None:
    asked: list[str] = []
    lineage = trace_lineage(LEARNED, [START], lambda documents: asked.extend(documents) or {"shown": ("law",)})
    assert asked == ["named", "old", "shown"]
    assert lineage["groups"] == {"old": ["hr"], "shown": ["law"]}


def test_leaks_are_inherited_once() -> None:
    assert inherit_leaks([START, REWARD]) == [{"held_out_id": "h"}]
    assert inherit_leaks([]) == []
