"""`bakeoff ask`: one question, one mode, one answer."""

from typing import Any

import click
import httpx

from bakeoff.cli.output import domain_option, json_option, print_json, say
from bakeoff.cli.serve import running_service
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BakeoffError
from bakeoff.modes import MODES

TIMEOUT_S = 600


@click.command("ask")
@click.argument("question")
@domain_option()
@click.option("--mode", required=True, type=click.Choice(list(MODES)), help="How to answer.")
@click.option("--url", metavar="URL", help="Service to ask; without it a private one is started and stopped.")
@click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(1), help="Longest answer, in tokens.")
@json_option()
def ask_command(question: str, domain: str, mode: str, url: str | None, max_tokens: int, as_json: bool) -> None:
    """Ask one QUESTION in one mode (greedily: the same question gets the same answer)."""
    settings = Workspace().settings
    if url is None:
        say("Starting a private service (give --url to use one that runs) ...")
    with running_service(url, settings.home, api_key=settings.api_key) as service:
        body = {
            "model": f"{domain}/{mode}",
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        address = f"{service.url}/v1/chat/completions"
        response = httpx.post(address, json=body, headers=service.headers, timeout=TIMEOUT_S)
    answer: dict[str, Any] = response.json()
    if response.is_error:
        raise BakeoffError(answer["error"]["message"])
    message, evidence = answer["choices"][0]["message"], answer["bakeoff"]
    citations = [annotation["url_citation"] for annotation in message["annotations"]]
    if as_json:
        print_json(
            {
                "answer": message["content"],
                "mode": mode,
                "citations": citations,
                "passages": evidence["passages"],
                "usage": answer["usage"],
            }
        )
        return
    click.echo(message["content"])
    for passage in evidence["passages"]:
        click.echo(f"  [{passage['rank']}] {passage['title']} ({passage['document_id']})")
