from bakeoff.records import Example
from training.data.language import find_foreign

ENGLISH = (
    "When does the museum open on Sunday mornings?",
    "Can I bring my own lunch into the reading room?",
    "How much does a ticket for the evening concert cost?",
)


def make(*questions: str) -> list[Example]:
    return [Example(f"e{number}", question, "ok") for number, question in enumerate(questions)]


def test_an_example_in_another_language_is_named() -> None:
    german = "Wann öffnet das Museum am Sonntagmorgen für Besucher?"
    chinese = "博物馆星期天早上几点开门我们可以带自己的午餐吗请告诉我"
    report = find_foreign(make(*ENGLISH, german, chinese))
    assert report.majority == "english"
    assert [(one.example_id, one.language) for one in report.foreign] == [("e3", "german"), ("e4", "chinese")]


def test_short_texts_and_foreign_names_are_not_judged_foreign() -> None:
    names = ("Does Kokkari Estiatorio accept Google Pay?", "Is there a lift at Joie de Vivre?", "Hola, ok?", "vegan?")
    assert find_foreign(make(*ENGLISH, *names)).foreign == ()


def test_too_little_text_has_no_language() -> None:
    assert find_foreign(make("vegan?", "ok?")).majority == ""
