"""Replies held to a JSON Schema by the engine's grammar. The puppet has no such reply: without the schema these fail."""

import json
from typing import Literal

from harness.stack import PUPPET
from pydantic import BaseModel
from samples import ASK


class Place(BaseModel):
    city: Literal["Paris"]


def test_a_schema_binds_the_reply(client_for):
    schema = {**Place.model_json_schema(), "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}}
    reply = client_for(PUPPET).chat.completions.create(model=PUPPET, messages=ASK, response_format=wanted)
    assert json.loads(reply.choices[0].message.content) == {"city": "Paris"}


def test_the_client_parses_the_reply_into_a_class(client_for):
    reply = client_for(PUPPET).chat.completions.parse(model=PUPPET, messages=ASK, response_format=Place)
    assert reply.choices[0].message.parsed == Place(city="Paris")
