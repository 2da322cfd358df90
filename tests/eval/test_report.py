"""The page loads nothing and trusts nothing; the tables say what the summary says."""

import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from bakeoff.records import Example
from eval.answers import Answer
from eval.report import format_markdown, format_report, format_table
from eval.summary import Summary, rescore_answers, summarise_answers

MODES = ("base", "few-shot", "fine-tuned", "rag", "hybrid")
ATTACK = "<script>alert(1)</script><img src=http://evil.test/x>"
MANIFEST: dict[str, Any] = {
    "created_at": "2026-11-21T10:00:00+00:00",
    "config": {"domain": "inn", "seed": 0, "max_tokens": 64},
    "models": {mode: {"engine": "embedded", "adapter": "abc123", "ready": True} for mode in MODES},
    "examples": {"n": 3, "sha256_16": "0123456789abcdef"},
    "versions": {"bakeoff": "0.1.0", "numpy": None},
    "host": {"cpu": "A <fast> CPU", "cores": 2, "system": "Linux"},
}


class Page(HTMLParser):
    """Collects tags, and checks that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def examples() -> tuple[Example, ...]:
    return (
        Example("e1", "Are pets allowed?", "Pets are allowed.", ("Pets are allowed.",), ("d1",), {"yes_no": "yes"}),
        Example("e2", f"When is check-in? {ATTACK}", "At 3 pm.", ("At 3 pm.",), ("d2",), {}),
        Example("e3", "Who is it?", "Same.", ("Same.",)),
    )


@pytest.fixture(scope="module")
def answers(examples: tuple[Example, ...]) -> dict[tuple[str, str], Answer]:
    texts = {
        "base": ("Pets are not allowed.", ATTACK, "Same."),
        "few-shot": ("Pets are allowed.", "At 4 pm.", "Same."),
        "fine-tuned": ("I don't know.", "", "Same."),
        "rag": ("Pets are allowed [1].", "At 15:00 [1].", "Same."),
        "hybrid": ("", "", ""),
    }
    found = {}
    for mode, completions in texts.items():
        for example, completion in zip(examples, completions, strict=True):
            citations: tuple[dict[str, Any], ...] = ()
            if mode == "rag":
                citations = (
                    {"url": "http://127.0.0.1:8000/passages/c1", "title": ATTACK, "start_index": 1, "end_index": 4},
                    {"url": "javascript:alert(1)", "title": "Trap", "start_index": 0, "end_index": 0},
                )
            is_broken = mode == "hybrid" and example.id == "e1"
            found[mode, example.id] = Answer(
                mode=mode,
                example_id=example.id,
                question=example.question,
                targets=example.answers,
                completion=completion,
                passage_ids=("c1",),
                citations=citations,
                scores={},
                latency_ms=120.0,
                first_token_ms=20.0,
                prompt_tokens=50,
                completion_tokens=9,
                document_ids=("d1",) if mode in ("rag", "hybrid") else None,
                error=f"broke {ATTACK}" if is_broken else None,
            )
    return rescore_answers(found, MODES, examples)


@pytest.fixture(scope="module")
def summary(answers: dict[tuple[str, str], Answer]) -> Summary:
    return summarise_answers("0123456789abcdef", answers, MODES, seed=0)


@pytest.fixture(scope="module")
def page(summary: Summary, answers: Any, examples: Any) -> str:
    return format_report(summary, answers, examples, MANIFEST)


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {tag for tag, _ in parser.tags}
    for tag, attributes in parser.tags:
        assert not {"src", "srcset", "background", "poster", "style"} & set(attributes), tag
        assert tag == "a" or not any("://" in (value or "") for value in attributes.values())
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_texts_of_models_and_users_are_shown_and_not_run(page: str) -> None:
    assert ATTACK not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    assert "A &lt;fast&gt; CPU" in page


def test_only_web_addresses_become_links(page: str) -> None:
    assert 'href="http://127.0.0.1:8000/passages/c1"' in page
    assert "javascript:" not in page
    assert "Trap" in page


def test_every_mode_stands_in_table_chart_and_answers(page: str) -> None:
    for mode in MODES:
        assert f"<b>{mode}</b>" in page
        assert f"<h4>{mode}</h4>" in page
        assert re.search(rf'<text x="0" y="[\d.]+">{mode}</text>', page)


def test_questions_on_which_modes_disagree_are_shown_and_others_are_not(page: str) -> None:
    assert "<summary>Are pets allowed?</summary>" in page
    assert "<summary>When is check-in?" in page
    assert page.count("<article") == 3 * len(MODES)
    assert "(cited)" in page
    agreeing = page.count("<summary>Who is it?</summary>")
    assert agreeing == 1, "one empty answer among equal ones is a disagreement"


def test_agreement_is_left_out(summary: Summary, answers: Any, examples: tuple[Example, ...]) -> None:
    same = {key: answer for key, answer in answers.items() if key[0] != "hybrid"}
    assert "Who is it?" not in format_report(summary, same, examples, MANIFEST)


def test_the_verdict_and_the_failure_stand_above_the_table(page: str, summary: Summary) -> None:
    assert page.index("Not enough data") < page.index("<table>")
    assert "Failed answers, left out of the figures and asked again by the next run: hybrid 1." in page
    assert "Failed: broke &lt;script&gt;" in page


def test_adapter_trained_on_test_questions_is_named_first(summary: Summary) -> None:
    leaky = msgspec.structs.replace(summary, leaks={"fine-tuned": 3})
    sentence = "Leaks: the adapter of fine-tuned was trained on 3 examples that may give test questions away"
    assert format_table(leaky).split("\n\n")[1].startswith(sentence)
    assert sentence not in format_table(summary)


def test_marks_stand_where_the_scale_says(page: str) -> None:
    polarity = page[page.index("<figcaption><b>polarity</b>") :]
    polarity = polarity[: polarity.index("</figure>")]
    places = dict(re.findall(r'<text x="0" y="[\d.]+">([\w-]+)</text>.*?<circle cx="([\d.]+)"', polarity, re.DOTALL))
    assert places == {"base": "84.0", "few-shot": "284.0", "fine-tuned": "84.0", "rag": "284.0"}


def test_the_terminal_table_is_plain_aligned_and_complete(summary: Summary) -> None:
    table = format_table(summary).splitlines()
    assert table[0].split()[:3] == ["mode", "token", "F1"]
    rag = next(line for line in table if line.startswith("rag"))
    assert rag.split()[1:7] == ["0.80", "0.67", "0.78", "1.00", "1.00", "0.50"]
    end = table[0].index("token F1") + len("token F1")
    assert rag[:end].endswith("0.80")
    counts = next(line for line in table if line.startswith("n "))
    assert counts.split()[1] == "2-3"
    assert max(map(len, table[:14])) <= 130
    assert any(line.startswith("Not enough data") for line in table)
    assert table[-1].startswith("Failed answers")


def test_the_markdown_table_has_a_row_per_mode(summary: Summary) -> None:
    lines = format_markdown(summary).splitlines()
    columns = lines[0].count("|")
    assert all(line.count("|") == columns for line in lines[: 2 + len(MODES) + 1])
    assert lines[2].startswith("| `base` | ")
    assert re.search(r"\d\.\d\d \(\d\.\d\d-\d\.\d\d\)", lines[2])
    assert lines[-1].startswith("- Failed answers")
