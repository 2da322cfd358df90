"""HTML -> Markdown, with BeautifulSoup and markdownify; DOCX comes this way too."""

import re
from collections.abc import Callable
from typing import Any

from bs4 import BeautifulSoup
from markdownify import MarkdownConverter

from bakeoff.errors import BadInput
from retrieval.formats.files import decode_text

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-]{2,40})", re.IGNORECASE)
_UNSEEN = ["script", "style", "noscript", "template", "svg", "iframe", "object", "head", "img", "input", "button"]


def read_html(data: bytes) -> tuple[str, str]:
    """Read a web page.

    Returns:
        (title, Markdown); the title is "" where there is none.

    Raises:
        BadInput: the encoding is neither UTF-8 nor what the page says.
    """
    return convert_html(_decode(data))


def convert_html(html: str) -> tuple[str, str]:
    """Convert HTML that is text already; as `read_html`."""
    soup = BeautifulSoup(html, "lxml")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for element in soup.find_all(_UNSEEN):
        element.decompose()
    converter = _Converter(
        heading_style="ATX",
        bullets="-",
        table_infer_header=True,
        escape_asterisks=False,
        escape_underscores=False,
        strip=["a"],
    )
    convert: Callable[[BeautifulSoup], str] = converter.convert_soup
    return title, re.sub(r"\n{3,}", "\n\n", convert(soup)).strip()


class _Converter(MarkdownConverter):
    """With cells that may hold a bar."""

    def convert_td(self, element: Any, text: str, parent_tags: set[str]) -> str:
        base: Any = super()
        return str(base.convert_td(element, text.replace("|", "\\|"), parent_tags))

    def convert_th(self, element: Any, text: str, parent_tags: set[str]) -> str:
        base: Any = super()
        return str(base.convert_th(element, text.replace("|", "\\|"), parent_tags))


def _decode(data: bytes) -> str:
    try:
        return decode_text(data)
    except BadInput:
        declared = _CHARSET.search(data[:4096])
        if not declared or b"\0" in data:
            raise
        try:
            return data.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeDecodeError) as error:
            raise BadInput(f"says it is {declared[1].decode('ascii')} but is not; save it as UTF-8") from error
