"""What the web pages read: the database's domains and documents, and the run folders' reports."""

import re
from pathlib import Path

from sqlalchemy import Engine

from bakeoff.artefacts import find_runs
from bakeoff.errors import NotFound
from bakeoff.examples import first_questions
from retrieval.catalogue import count_documents, find_document
from service.answer import Answerer
from service.catalogue import ModelState
from service.web.pages import DocumentView, DomainView, ModeView

NUM_QUESTIONS = 4
REPORT = "report.html"


class DatabaseLibrary:
    """The `Library` of the running service."""

    def __init__(self, engine: Engine, answerer: Answerer, home: Path) -> None:
        self._engine = engine
        self._answerer = answerer
        self._home = home

    def domains(self, groups: frozenset[str]) -> list[DomainView]:
        """Every domain, by name, as a reader of these groups finds it."""
        modes: dict[str, list[ModeView]] = {}
        for state in self._answerer.list_models(groups):
            modes.setdefault(state.domain.name, []).append(_mode_view(state))
        return [self._domain_view(name, tuple(views), groups) for name, views in modes.items()]

    def document(self, domain: str, document_id: str, groups: frozenset[str]) -> DocumentView:
        """One document with its chunks.

        Raises:
            NotFound: no such domain or document, or not for a reader of these groups.
        """
        with self._engine.connect() as connection:
            document, chunks = find_document(connection, domain, document_id, groups)
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

    def _domain_view(self, name: str, modes: tuple[ModeView, ...], groups: frozenset[str]) -> DomainView:
        with self._engine.connect() as connection:
            num_documents = count_documents(connection, name, groups)
            questions = first_questions(connection, name, NUM_QUESTIONS)
        reports = (run.name for run in find_runs(self._home, name) if (run / REPORT).is_file())
        return DomainView(name, modes, num_documents, tuple(questions), next(reports, None))


def _mode_view(state: ModelState) -> ModeView:
    if state.lack is None:
        return ModeView(state.mode.name, ready=True)
    return ModeView(state.mode.name, ready=False, reason=f"{state.lack.reason}.", command=state.lack.command)
