import pytest

from bakeoff.errors import BadInput, NotFound
from bakeoff.modes import MODES, check_domain_name, parse_model_name


def test_the_five_modes_are_there_in_the_order_of_the_table() -> None:
    assert list(MODES) == ["base", "few-shot", "fine-tuned", "rag", "hybrid"]
    assert [mode.name for mode in MODES.values() if mode.uses_adapter] == ["fine-tuned", "hybrid"]
    assert [mode.name for mode in MODES.values() if mode.uses_retrieval] == ["rag", "hybrid"]


@pytest.mark.parametrize("text", ["concierge/rag", "a_b-9/few-shot", "d/hybrid@0123456789abcdef"])
def test_a_model_name_survives_a_round_trip(text: str) -> None:
    assert str(parse_model_name(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rag", "<domain>/<mode>"),
        ("concierge/auto", "Modes: base, few-shot, fine-tuned, rag, hybrid"),
        ("Concierge/rag", "<domain>/<mode>"),
        ("concierge/rag@0123456789abcdef", "uses no adapter"),
        ("../etc/rag", "<domain>/<mode>"),
        ("concierge/rag\n", "<domain>/<mode>"),
        ("", "<domain>/<mode>"),
    ],
)
def test_an_unknown_model_name_is_refused_with_the_form(text: str, said: str) -> None:
    with pytest.raises(NotFound, match=said.replace("/", "/")):
        parse_model_name(text)


@pytest.mark.parametrize("name", ["", "a" * 65, "A", "a b", "a/b", "..", "ä", "a\n"])
def test_a_domain_name_outside_the_alphabet_is_refused(name: str) -> None:
    with pytest.raises(BadInput):
        check_domain_name(name)
