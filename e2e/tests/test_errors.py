"""Refusals, as the official client reports them."""

import openai
import pytest
from harness.process import wait_until
from harness.stack import PUPPET
from samples import ASK

pytestmark = pytest.mark.gateway_only


def refusal(kind, client, model=PUPPET, **options):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=ASK, **options)
    return caught.value


def test_a_request_without_a_key_is_401(client_for):
    no_header = {"Authorization": openai.Omit()}
    error = refusal(openai.AuthenticationError, client_for(PUPPET), extra_headers=no_header)
    assert (error.type, error.code) == ("authentication_error", "missing_api_key")


def test_a_wrong_key_is_403(client_for):
    error = refusal(openai.PermissionDeniedError, client_for(PUPPET, api_key="wrong"))
    assert (error.type, error.code) == ("permission_error", "invalid_api_key")


def test_an_unknown_model_is_404(client_for):
    error = refusal(openai.NotFoundError, client_for(PUPPET), model="acme/nobody")
    assert (error.type, error.code) == ("invalid_request_error", "model_not_found")
    assert error.request_id


def is_known(client):
    try:
        client.models.list()
    except openai.PermissionDeniedError:
        return False
    return True


def test_a_key_bound_to_one_model_is_refused_another(stack, client_for):
    stack.gateway.manage("team", "create", "e2e")
    key = stack.gateway.manage("key", "create", "--team", "e2e", "--model", "gemma*")["key"]
    client = client_for(PUPPET, api_key=key)
    wait_until(lambda: is_known(client), "the gateway's notice of a new key")
    error = refusal(openai.PermissionDeniedError, client)
    assert (error.type, error.code) == ("permission_error", "model_not_allowed")


def test_the_engines_complaint_about_a_parameter_reaches_the_caller(client_for):
    error = refusal(openai.BadRequestError, client_for(PUPPET), extra_body={"grammar": "not a grammar"})
    assert error.type == "invalid_request_error"
    assert "127.0.0.1" not in error.message
