"""What every test uses: the running stack and clients for it."""

import os

import pytest
from harness.gateway import API_KEY
from harness.stack import Stack
from openai import OpenAI

os.environ["LANGSMITH_TRACING"] = "false"  # LangChain must not report anywhere


def pytest_configure(config):
    config.addinivalue_line("markers", "gateway_only: about what the gateway adds; skipped with E2E_DIRECT=1")


def pytest_collection_modifyitems(items):
    if os.environ.get("E2E_DIRECT") == "1":
        for item in items:
            if item.get_closest_marker("gateway_only"):
                item.add_marker(pytest.mark.skip(reason="there is no gateway with E2E_DIRECT=1"))


@pytest.fixture(scope="session")
def stack():
    with Stack() as running:
        yield running


@pytest.fixture(scope="session")
def client_for(stack):
    """An OpenAI client for a model. It never retries by itself: that is the gateway's work, and would hide failures."""

    def client(model, api_key=API_KEY):
        return OpenAI(base_url=stack.base_url(model), api_key=api_key, max_retries=0, timeout=60)

    return client
