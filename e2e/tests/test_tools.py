"""Tool calls, parsed by llama.cpp and streamed as argument deltas."""

import json

import pytest
from harness.scripted_model import ANSWER, TOOL, TOOL_ARGUMENTS
from harness.stack import PUPPET
from samples import ASK_WEATHER, WEATHER_TOOL

REQUEST = {"model": PUPPET, "messages": ASK_WEATHER, "tools": [WEATHER_TOOL]}


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_model_calls_a_tool(client_for, choice):
    reply = client_for(PUPPET).chat.completions.create(**REQUEST, tool_choice=choice)
    (call,) = reply.choices[0].message.tool_calls
    assert call.id
    assert call.function.name == TOOL
    assert json.loads(call.function.arguments) == TOOL_ARGUMENTS
    assert reply.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_the_arguments_of_a_streamed_call_arrive_in_pieces(client_for, choice):
    chunks = list(client_for(PUPPET).chat.completions.create(**REQUEST, tool_choice=choice, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].id
    assert [delta.function.name for delta in deltas if delta.function.name] == [TOOL]
    assert len(deltas) > 1
    arguments = "".join(delta.function.arguments or "" for delta in deltas)
    assert json.loads(arguments) == TOOL_ARGUMENTS
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_conversation_goes_on_after_the_tool_has_answered(client_for):
    client = client_for(PUPPET)
    asked = client.chat.completions.create(**REQUEST).choices[0].message
    result = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "sunny"}
    messages = [*ASK_WEATHER, asked.model_dump(exclude_none=True), result]
    reply = client.chat.completions.create(**{**REQUEST, "messages": messages})
    assert reply.choices[0].message.content == ANSWER
