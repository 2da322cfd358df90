"""What the commands stand on: settings, database, embedder and retriever, each opened when it is first used."""

from functools import cached_property

from sqlalchemy import Engine

from bakeoff.database import open_database
from bakeoff.models import find_embedder
from bakeoff.settings import Settings, read_settings
from retrieval.embedder import SentenceTransformerEmbedder
from retrieval.retriever import Retriever


class Workspace:
    """The state under BAKEOFF_HOME."""

    @cached_property
    def settings(self) -> Settings:
        """The `BAKEOFF_*` variables, parsed."""
        return read_settings()

    @cached_property
    def engine(self) -> Engine:
        """The database, at the newest migration."""
        return open_database(self.settings.url, self.settings.home)

    @cached_property
    def embedder(self) -> SentenceTransformerEmbedder:
        """The embedder; loads its model on the first text."""
        return SentenceTransformerEmbedder(find_embedder(self.settings), self.settings.embedder)

    @cached_property
    def retriever(self) -> Retriever:
        """Searches every domain."""
        return Retriever(self.engine, self.embedder)
