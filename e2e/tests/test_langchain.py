"""LangChain's OpenAI integration."""

import pytest
from harness.gateway import API_KEY
from harness.scripted_model import ANSWER, GREETING, TOOL, TOOL_ARGUMENTS
from harness.stack import EMBEDDER, PUPPET
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from samples import WEATHER_TOOL, cosine


@pytest.fixture
def chat(stack):
    return ChatOpenAI(model=PUPPET, base_url=stack.base_url(PUPPET), api_key=API_KEY, max_retries=0)


def test_invoke_answers(chat):
    reply = chat.invoke("Who is there?")
    assert reply.content == GREETING
    assert reply.usage_metadata["output_tokens"] == 6


def test_stream_spells_out_the_reply(chat):
    words = [chunk.content for chunk in chat.stream("Who is there?") if chunk.content]
    assert "".join(words) == GREETING
    assert len(words) == 5


def test_a_bound_tool_is_called_and_its_result_answered(chat):
    armed = chat.bind_tools([WEATHER_TOOL])
    question = HumanMessage("How is the weather in Paris?")
    asked = armed.invoke([question])
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == (TOOL, TOOL_ARGUMENTS)
    result = ToolMessage("sunny", tool_call_id=call["id"])
    assert armed.invoke([question, asked, result]).content == ANSWER


def test_embeddings_keep_their_order(stack):
    # `check_embedding_ctx_length` would fetch a tokenizer of OpenAI's, which other models do not have.
    model = OpenAIEmbeddings(
        model=EMBEDDER, base_url=stack.base_url(EMBEDDER), api_key=API_KEY, check_embedding_ctx_length=False
    )
    cat, kitten, revenue = model.embed_documents(["cat", "kitten", "quarterly revenue"])
    assert cosine(cat, kitten) > cosine(cat, revenue)
