"""The list of models."""

import httpx
import pytest
from harness.gateway import API_KEY
from harness.scripted_model import GREETING
from harness.stack import EMBEDDER, FRAGILE, GEMMA, PUPPET
from samples import ASK

pytestmark = pytest.mark.gateway_only


def test_every_configured_model_is_listed(client_for):
    listed = {model.id for model in client_for(PUPPET).models.list()}
    assert {PUPPET, FRAGILE, GEMMA, EMBEDDER} <= listed


def test_a_model_whose_name_has_a_slash_is_found(client_for):
    found = client_for(PUPPET).models.retrieve(PUPPET)  # the client writes %2F
    assert found.id == PUPPET


def test_the_slash_may_stand_in_the_path_as_it_is(stack):
    headers = {"Authorization": f"Bearer {API_KEY}"}
    reply = httpx.get(f"{stack.base_url(PUPPET)}/models/{PUPPET}", headers=headers)
    assert reply.json()["id"] == PUPPET


def test_an_alias_answers_like_the_model(client_for):
    reply = client_for(PUPPET).chat.completions.create(model="default", messages=ASK)
    assert reply.choices[0].message.content == GREETING
