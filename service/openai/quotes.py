"""What stored objects quote of documents: kept as places, read anew whenever they are shown.

So a document that was deleted, or that its caller may no longer see, is not read through an old answer: its passage is
left out. What a model made of it stays, for that is the answer.
"""

import msgspec
from sqlalchemy import Connection

from bakeoff.errors import NotFound
from bakeoff.records import Passage
from retrieval.catalogue import StoredChunk, find_document
from retrieval.passages import join_parts
from service.callers import Caller


def bare(passage: Passage) -> Passage:
    """The passage's place, and none of its text."""
    return msgspec.structs.replace(passage, text="", title="", heading="")


def read_again(connection: Connection, passage: Passage, domain: str, caller: Caller) -> Passage | None:
    """The passage with its text; None where it is not there any more, or not for this caller."""
    try:
        _, chunks = find_document(connection, domain, passage.document_id, caller.groups)
    except NotFound:
        return None
    by_id = {chunk.chunk_id: chunk for chunk in chunks}
    if not by_id.keys() >= set(passage.chunk_ids):
        return None  # the document says something else now
    parts = [StoredChunk(place, place, by_id[chunk_id]) for place, chunk_id in enumerate(passage.chunk_ids)]
    first = parts[0].chunk
    return msgspec.structs.replace(passage, text=join_parts(parts), title=first.title, heading=first.heading)
