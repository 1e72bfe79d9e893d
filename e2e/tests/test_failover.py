"""Engines that are down, crash between requests, or crash in the middle of a reply."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import openai
import pytest
from harness.engines import LlamaServer
from harness.gateway import API_KEY, Gateway, backend
from harness.scripted_model import GREETING
from harness.stack import FRAGILE
from samples import ASK, ASK_TO_COUNT

pytestmark = pytest.mark.gateway_only

MODEL = "doubled"
LONG_STORY = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 3500}


def gateway_for(engines, served):
    deployments = [{"backend": engine.name, "model": served} for engine in engines]
    models = [{"name": MODEL, "deployments": deployments}]
    return Gateway(f"gateway-{engines[0].name}", [backend(engine) for engine in engines], models)


def client(gateway):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=API_KEY, max_retries=0, timeout=60)


def test_a_model_whose_engine_is_down_falls_back(client_for):
    reply = client_for(FRAGILE).chat.completions.create(model=FRAGILE, messages=ASK)
    assert reply.choices[0].message.content == GREETING


def test_killing_one_of_two_engines_under_load_fails_no_request():
    with ExitStack() as running:
        doomed, survivor = (running.enter_context(LlamaServer(f"twin-{n}", "scripted")) for n in (1, 2))
        gateway = running.enter_context(gateway_for([doomed, survivor], "scripted"))
        api = running.enter_context(client(gateway))

        def ask(number):
            if number == 100:
                assert doomed.generated_tokens() > 0
                doomed.kill()
            reply = api.chat.completions.create(model=MODEL, messages=ASK_TO_COUNT, max_tokens=64)
            return reply.usage.completion_tokens

        with ThreadPoolExecutor(8) as callers:
            assert list(callers.map(ask, range(400))) == [64] * 400


def events_of_a_stream_whose_engine_dies(engine, gateway):
    url = f"{gateway.url}/v1/completions"
    body = {**LONG_STORY, "stream": True, "ignore_eos": True}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: "):
                engine.kill()
                yield line.removeprefix("data: ")


def test_an_engine_that_dies_in_mid_reply_ends_the_stream_with_an_error():
    with LlamaServer("doomed-1", "gemma", slots=1) as engine, gateway_for([engine], "gemma") as gateway:
        events = list(events_of_a_stream_whose_engine_dies(engine, gateway))
    assert json.loads(events[0])["choices"][0]["text"]
    assert "[DONE]" not in events
    error = json.loads(events[-1])["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_truncated")


def test_the_official_client_raises_when_an_engine_dies_in_mid_reply():
    with LlamaServer("doomed-2", "gemma", slots=1) as engine, gateway_for([engine], "gemma") as gateway:
        endless = {"ignore_eos": True}
        stream = client(gateway).completions.create(**LONG_STORY, stream=True, extra_body=endless)
        assert next(stream).choices[0].text
        engine.kill()
        with pytest.raises(openai.APIError) as caught:
            list(stream)
    assert caught.value.code == "upstream_truncated"
