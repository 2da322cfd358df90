"""Question -> the nearest training examples, for the few-shot mode. Their vectors are kept in the database."""

from sqlalchemy import Engine, delete, insert, select

from bakeoff.artefacts import digest_of
from bakeoff.domains import find_domain
from bakeoff.examples import examples_table, find_examples, split_examples
from bakeoff.progress import Progress
from bakeoff.records import Example
from retrieval.embedder import Embedder, Vectors
from retrieval.index.rows import stack_vectors
from retrieval.tables import shots_table

BATCH_SIZE = 256


def embed_shots(engine: Engine, domain: str, embedder: Embedder, progress: Progress) -> int:
    """Embed the questions of the training examples that have no vector of this embedder yet.

    Args:
        progress: called with (done, in all, note) after every batch.

    Returns:
        How many were embedded.
    """
    with engine.connect() as connection:
        table = shots_table.c
        query = select(table.example_id).where(table.domain == domain, table.embedder == embedder.name)
        known = set(connection.scalars(query))
        new = [example for example in split_examples(connection, domain, "train") if example.id not in known]
    for start in range(0, len(new), BATCH_SIZE):
        batch = new[start : start + BATCH_SIZE]
        vectors = embedder.embed([example.question for example in batch])
        rows = [
            {"domain": domain, "example_id": example.id, "embedder": embedder.name, "vector": vector.tobytes()}
            for example, vector in zip(batch, vectors, strict=True)
        ]
        with engine.begin() as connection:
            stale = (shots_table.c.domain == domain, shots_table.c.example_id.in_([row["example_id"] for row in rows]))
            connection.execute(delete(shots_table).where(*stale))
            connection.execute(insert(shots_table), rows)
        progress(start + len(batch), len(new), "training questions")
    return len(new)


def nearest_shots(
    engine: Engine, domain: str, question: str, embedder: Embedder, num_shots: int, task: str = "answer"
) -> list[Example]:
    """The training examples of a task whose questions are nearest to this one, the nearest last.

    Raises:
        NotFound: no such domain.
    """
    table = shots_table.c
    query = select(table.example_id, table.vector).where(table.domain == domain, table.embedder == embedder.name)
    with engine.connect() as connection:
        find_domain(connection, domain)
        rows = connection.execute(query.order_by(table.example_id)).all()
        if not rows:
            return []
        similarities = stack_vectors([vector for _, vector in rows]) @ embedder.embed([question])[0]
        best = [rows[position][0] for position in similarities.argsort(kind="stable")[::-1]]
        nearest: list[Example] = []
        for start in range(0, len(best), BATCH_SIZE):
            found = find_examples(connection, domain, best[start : start + BATCH_SIZE])
            nearest += [example for example in found if example.task == task]
            if len(nearest) >= num_shots:
                break
        return nearest[:num_shots][::-1]


def load_questions(engine: Engine, domain: str, embedder: str) -> Vectors:
    """Vectors of the domain's training questions, (n, dim); (0, 0) for none."""
    table = shots_table.c
    query = select(table.vector).where(table.domain == domain, table.embedder == embedder).order_by(table.example_id)
    with engine.connect() as connection:
        return stack_vectors(connection.scalars(query).all())


def hash_shots(engine: Engine, domain: str, embedder: str) -> str | None:
    """Digest of the training examples that can be put before a question; None where there are none."""
    table = examples_table.c
    query = (
        select(table.id, table.question, table.answer)
        .join(shots_table, (shots_table.c.domain == table.domain) & (shots_table.c.example_id == table.id))
        .where(table.domain == domain, table.split == "train", shots_table.c.embedder == embedder)
        .order_by(table.id)
    )
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    return digest_of(rows) if rows else None
