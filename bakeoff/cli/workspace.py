"""What the commands stand on: settings, database, embedder and retriever, each opened when it is first used."""

from collections.abc import Callable
from functools import cached_property

from sqlalchemy import Engine

from bakeoff.artefacts import indexes_dir
from bakeoff.cli.output import say
from bakeoff.database import open_database
from bakeoff.domains import find_domain
from bakeoff.errors import NotReady
from bakeoff.examples import cut_validation, split_examples
from bakeoff.models import find_embedder, find_reranker
from bakeoff.records import Example, Passage
from bakeoff.settings import Settings, read_settings
from retrieval.embedder import Embedder, open_embedder
from retrieval.reranker import open_reranker
from retrieval.retriever import Retriever, SearchOptions


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
    def embedder(self) -> Embedder:
        """The embedder; loads its model on the first text."""
        folder = find_embedder(self.settings)
        return open_embedder(folder, self.settings.embedder, self.settings.models / "embedders")

    @cached_property
    def search_options(self) -> SearchOptions:
        """What the modes with retrieval ask for."""
        return SearchOptions(top_k=self.settings.top_k, max_tokens=self.settings.passage_tokens)

    @cached_property
    def retriever(self) -> Retriever:
        """Searches every domain."""
        reranker = open_reranker(find_reranker(self.settings))
        return Retriever(self.engine, self.embedder, indexes_dir(self.settings.home), reranker=reranker)

    def passages_finder(self, domain: str) -> Callable[[list[str]], list[list[Passage]]]:
        """Questions -> the passages that serving would put before each."""

        def find_passages(questions: list[str]) -> list[list[Passage]]:
            results = self.retriever.search_many(domain, questions, self.search_options)
            return [list(result.passages) for result in results]

        return find_passages

    def validation_examples(self, domain: str, seed: int) -> list[Example]:
        """The domain's validation examples, or those that `splits` cuts from train.

        Raises:
            NotFound: no such domain.
            NotReady: it has neither.
        """
        with self.engine.connect() as connection:
            find_domain(connection, domain)
            found = split_examples(connection, domain, "validation")
        return found or self.splits(domain, seed)[1]

    def splits(self, domain: str, seed: int) -> tuple[list[Example], list[Example]]:
        """The domain's training and validation examples; without a validation split, one is cut from train by seed.

        Raises:
            NotFound: no such domain.
            NotReady: it has no training examples.
        """
        with self.engine.connect() as connection:
            find_domain(connection, domain)
            train_examples = split_examples(connection, domain, "train")
            validation_examples = split_examples(connection, domain, "validation")
        if not train_examples:
            raise NotReady(
                f"domain {domain!r} has no training examples; import some with: "
                f"bakeoff examples import FILE --domain {domain} --split train"
            )
        if not validation_examples:
            train_examples, validation_examples = cut_validation(train_examples, seed)
            say(f"No validation split: {len(validation_examples)} training examples are cut off for it by seed {seed}.")
        return train_examples, validation_examples
