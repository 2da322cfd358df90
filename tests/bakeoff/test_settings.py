from pathlib import Path

import pytest

from bakeoff.errors import BadInput
from bakeoff.settings import read_settings


def test_values_are_parsed_by_type() -> None:
    settings = read_settings({"BAKEOFF_HOME": "x", "BAKEOFF_TOP_K": "7", "PATH": "/bin"})
    assert (settings.home, settings.top_k) == (Path("x"), 7)


def test_the_database_lies_in_the_home_unless_a_url_is_given() -> None:
    assert read_settings({"BAKEOFF_HOME": "x"}).url.endswith("/x/bakeoff.db")
    assert read_settings({"BAKEOFF_DATABASE_URL": "postgresql://h/d"}).url == "postgresql://h/d"


@pytest.mark.parametrize(
    ("environ", "said"),
    [({"BAKEOFF_TOPK": "7"}, "BAKEOFF_TOPK is not a setting"), ({"BAKEOFF_TOP_K": "many"}, "top_k")],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_settings(environ)
