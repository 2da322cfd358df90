"""What the web pages read: the database's domains and documents, and the run folders' reports."""

import re
from pathlib import Path

from sqlalchemy import Engine

from bakeoff.artefacts import find_runs
from bakeoff.errors import NotFound
from bakeoff.examples import first_questions
from retrieval.catalogue import count_documents, find_document
from retrieval.permissions import caller_groups
from service.answer import Answerer, ModelState
from service.web.pages import DocumentView, DomainView, ModeView

NUM_QUESTIONS = 4
REPORT = "report.html"


class DatabaseLibrary:
    """The `Library` of the running service."""

    def __init__(self, engine: Engine, answerer: Answerer, home: Path) -> None:
        self._engine = engine
        self._answerer = answerer
        self._home = home

    def domains(self) -> list[DomainView]:
        """Every domain, by name."""
        modes: dict[str, list[ModeView]] = {}
        for state in self._answerer.list_models():
            modes.setdefault(state.domain.name, []).append(_mode_view(state))
        return [self._domain_view(name, tuple(views)) for name, views in modes.items()]

    def document(self, domain: str, document_id: str) -> DocumentView:
        """One document with its chunks.

        Raises:
            NotFound: no such domain or document.
        """
        with self._engine.connect() as connection:
            document, chunks = find_document(connection, domain, document_id, caller_groups())
        return DocumentView(document.title, document.source, tuple((chunk.chunk_id, chunk.text) for chunk in chunks))

    def report(self, domain: str, run_id: str | None) -> Path:
        """The report of a run, or of the newest one.

        Raises:
            NotFound: no such run, or it has no report.
        """
        runs = find_runs(self._home, domain) if re.fullmatch(r"[a-z0-9_-]{1,64}", domain) else []
        for run in runs:
            if run_id in (None, run.name) and (run / REPORT).is_file():
                return run / REPORT
        raise NotFound(f"domain {domain!r} has no report {run_id or ''}; make one with: bakeoff eval --domain {domain}")

    def _domain_view(self, name: str, modes: tuple[ModeView, ...]) -> DomainView:
        with self._engine.connect() as connection:
            num_documents = count_documents(connection, name, caller_groups())
            questions = first_questions(connection, name, NUM_QUESTIONS)
        reports = (run.name for run in find_runs(self._home, name) if (run / REPORT).is_file())
        return DomainView(name, modes, num_documents, tuple(questions), next(reports, None))


def _mode_view(state: ModelState) -> ModeView:
    if state.lack is None:
        return ModeView(state.mode.name, ready=True)
    return ModeView(state.mode.name, ready=False, reason=f"{state.lack.reason}.", command=state.lack.command)
