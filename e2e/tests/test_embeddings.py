"""Embeddings of a real model. Its scores sit close together, so that only their order means something."""

from harness.stack import EMBEDDER
from samples import cosine


def test_related_words_lie_closer_together(client_for):
    words = ["cat", "kitten", "quarterly revenue"]
    reply = client_for(EMBEDDER).embeddings.create(model=EMBEDDER, input=words)
    assert [item.index for item in reply.data] == [0, 1, 2]
    cat, kitten, revenue = (item.embedding for item in reply.data)
    assert cosine(cat, kitten) > cosine(cat, revenue)
    assert reply.usage.prompt_tokens > 0


def test_both_encodings_hold_the_same_vector(client_for):
    def embed(encoding):
        reply = client_for(EMBEDDER).embeddings.create(model=EMBEDDER, input="cat", encoding_format=encoding)
        return reply.data[0].embedding

    as_base64 = embed("base64")
    assert isinstance(as_base64, str)
    assert len(embed("float")) * 4 == len(as_base64.rstrip("=")) * 3 // 4
