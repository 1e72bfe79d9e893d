"""Streamed replies: with the official Python client, and as bytes."""

import httpx
from harness.gateway import API_KEY
from harness.scripted_model import GREETING
from harness.stack import GEMMA, PUPPET
from samples import ASK


def chat_stream(client_for, **options):
    return client_for(PUPPET).chat.completions.create(model=PUPPET, messages=ASK, stream=True, **options)


def test_a_stream_spells_out_the_reply(client_for):
    choices = [chunk.choices[0] for chunk in chat_stream(client_for)]
    words = [choice.delta.content for choice in choices if choice.delta.content]
    assert "".join(words) == GREETING
    assert len(words) == 5
    assert choices[-1].finish_reason == "stop"


def test_usage_comes_last_when_it_is_asked_for(client_for):
    *before, last = chat_stream(client_for, stream_options={"include_usage": True})
    assert not any(chunk.usage for chunk in before)
    assert last.choices == []
    assert last.usage.completion_tokens == 6


def test_usage_stays_away_when_nobody_asked(client_for):
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chat_stream(client_for))


def test_the_bytes_are_server_sent_events_that_end_with_done(stack):
    body = {"model": PUPPET, "messages": ASK, "stream": True}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    reply = httpx.post(f"{stack.base_url(PUPPET)}/chat/completions", json=body, headers=headers)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [line for line in reply.text.splitlines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in events)
    assert events[-1] == "data: [DONE]"
    assert events.count("data: [DONE]") == 1


def test_a_real_model_streams_what_it_says_at_once(client_for):
    request = {"model": GEMMA, "prompt": "Water boils at", "max_tokens": 16, "temperature": 0}
    client = client_for(GEMMA)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**request, stream=True))
    assert streamed == client.completions.create(**request).choices[0].text
