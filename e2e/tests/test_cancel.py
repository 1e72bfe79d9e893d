"""A caller who hangs up stops the engine's work. The model is a slow one: what is asked for would take minutes."""

import openai
import pytest
from harness.process import wait_until
from harness.stack import GEMMA

TOKENS = 3500
ENDLESS = {"ignore_eos": True}
REQUEST = {"model": GEMMA, "prompt": "Once upon a time", "max_tokens": TOKENS, "extra_body": ENDLESS}


@pytest.fixture
def engine(stack):
    """The engine, which must have begun and stopped early by the end of the test."""
    before = stack.gemma.generated_tokens()
    yield stack.gemma
    # While someone waits for a whole reply, llama-server looks for a hang-up only after a second without other requests.
    wait_until(lambda: stack.gemma.busy_slots() == 0, "the end of the engine's work", every=1.5)
    assert 0 < stack.gemma.generated_tokens() - before < TOKENS


def test_closing_a_stream_frees_the_engine(engine, client_for):
    with client_for(GEMMA) as client:
        stream = client.completions.create(**REQUEST, stream=True)
        assert next(stream).choices[0].text
        assert engine.busy_slots() == 1
        stream.close()


@pytest.mark.usefixtures("engine")
def test_giving_up_on_a_whole_reply_frees_the_engine(client_for):
    with client_for(GEMMA) as client, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).completions.create(**REQUEST)
