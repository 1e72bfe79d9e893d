"""Chat and text completions with the official Python client."""

import asyncio

from harness.gateway import API_KEY
from harness.scripted_model import GREETING
from harness.stack import GEMMA, PUPPET
from openai import AsyncOpenAI
from samples import ASK, ASK_TO_COUNT


def test_a_reply_arrives_word_for_word(client_for):
    reply = client_for(PUPPET).chat.completions.create(model=PUPPET, messages=ASK)
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content == GREETING
    assert reply.choices[0].finish_reason == "stop"


def test_usage_is_the_engines_count(client_for):
    usage = client_for(PUPPET).chat.completions.create(model=PUPPET, messages=ASK).usage
    assert usage.completion_tokens == 6  # five pieces and the end
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_reply_stops_at_max_tokens(client_for):
    reply = client_for(PUPPET).chat.completions.create(model=PUPPET, messages=ASK_TO_COUNT, max_tokens=12)
    assert reply.choices[0].message.content == " one two three four five six seven eight nine ten one two"
    assert reply.choices[0].finish_reason == "length"


def test_log_probabilities_survive(client_for):
    request = {"model": PUPPET, "messages": ASK, "logprobs": True, "top_logprobs": 2}
    reply = client_for(PUPPET).chat.completions.create(**request)
    first = reply.choices[0].logprobs.content[0]
    assert first.token == "Hello"
    assert len(first.top_logprobs) == 2


def test_parameters_that_only_the_engine_knows_reach_it(client_for):
    grammar = {"grammar": 'root ::= "yes"'}
    reply = client_for(PUPPET).chat.completions.create(model=PUPPET, messages=ASK, extra_body=grammar)
    assert reply.choices[0].message.content == "yes"


def test_many_callers_at_once_each_get_their_own_reply(stack):
    async def ask(client, tokens):
        reply = await client.chat.completions.create(model=PUPPET, messages=ASK_TO_COUNT, max_tokens=tokens)
        return reply.usage.completion_tokens

    async def ask_all():
        async with AsyncOpenAI(base_url=stack.base_url(PUPPET), api_key=API_KEY, max_retries=0) as client:
            return await asyncio.gather(*(ask(client, tokens) for tokens in range(1, 65)))

    assert asyncio.run(ask_all()) == list(range(1, 65))


def test_a_real_model_continues_a_text(client_for):
    prompt = "The capital of France is"
    request = {"model": GEMMA, "prompt": prompt, "max_tokens": 24, "temperature": 0}
    reply = client_for(GEMMA).completions.create(**request)
    assert "France" in reply.choices[0].text
    assert reply.usage.completion_tokens == 24
