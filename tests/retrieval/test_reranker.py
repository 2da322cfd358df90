"""A cross-encoder of two layers with random weights: what matters is that its order is the one that comes out."""

from pathlib import Path

import pytest
from sqlalchemy import Engine
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from bakeoff.models import find_embedder
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from retrieval.reranker import CrossEncoderReranker, open_reranker
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import add_documents


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cross-encoder")
    tokenizer = AutoTokenizer.from_pretrained(find_embedder(Settings()))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_passages_come_in_the_order_of_the_reranker(
    engine: Engine, embedder: Embedder, corpus: list[Document], cross_encoder: Path, tmp_path: Path
) -> None:
    add_documents(engine, "d", corpus, embedder, lambda *_: None)
    reranker = open_reranker(cross_encoder)
    assert isinstance(reranker, CrossEncoderReranker)
    question = "May I bring my dog?"
    plain = Retriever(engine, embedder, tmp_path).search("d", question, SearchOptions(top_k=6))
    reranked = Retriever(engine, embedder, tmp_path, reranker=reranker).search("d", question, SearchOptions(top_k=6))
    texts = {
        passage.document_id: passage.text
        if passage.text.startswith(passage.title)
        else f"{passage.title}\n{passage.text}"
        for passage in plain.passages
    }
    scores = dict(zip(texts, reranker.score(question, list(texts.values())), strict=True))
    assert [passage.document_id for passage in reranked.passages] == sorted(texts, key=lambda name: -scores[name])
    assert [passage.document_id for passage in reranked.passages] != list(texts)
    assert [why.reranked for why in reranked.explanations] == pytest.approx(
        sorted(scores.values(), reverse=True), abs=1e-4
    )
    best = Retriever(engine, embedder, tmp_path, reranker=reranker).search("d", question, SearchOptions(top_k=1))
    assert best.passages[0].document_id == reranked.passages[0].document_id


def test_no_reranker_is_opened_where_none_is_set() -> None:
    assert open_reranker(None) is None
