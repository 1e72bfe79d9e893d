"""Runs the official Python client's own API tests against the gateway, with a mock as the engine that checks every
request against OpenAI's API description. So it shows that what the client sends is still valid when it leaves the
gateway, and that what comes back is still what the client expects.

The description is not part of this repository: OPENAI_SPEC names the file. Without it nothing runs. With E2E_DIRECT=1
the tests go straight to the mock.

    OPENAI_SPEC=openapi.yml .e2e/sdk/bin/python e2e/conformance.py
"""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from harness.gateway import Gateway, backend
from harness.process import INSTALLED, ROOT, Server

SDK = INSTALLED / "openai-python"
CLIENT_KEY = "My API Key"  # the key in the client's tests

FOLDER = "tests/api_resources"
FILES = [
    "chat/test_completions.py",
    "test_completions.py",
    "test_embeddings.py",
    "test_models.py",
    "test_responses.py",
    "test_moderations.py",
    "test_images.py",
    "audio/test_speech.py",
    "audio/test_transcriptions.py",
    "audio/test_translations.py",
]
# The tests in them that are about what the gateway offers. Where only `all_params` are taken, the others name no model,
# and a gateway could not tell where to send them. Left out is `stream_options` without `stream`, which OpenAI's own
# service refuses as well.
SELECTION = """
    test_completions and create and not all_params_overload_1
    or (test_embeddings or test_speech or test_transcriptions or test_translations) and create
    or test_responses and create and all_params_overload_2
    or test_moderations and create and all_params
    or test_images and generate and all_params
    or test_models and (retrieve or list)
"""


class Mock(Server):
    """Steady, a mock server made from an OpenAPI document; it refuses what the document does not allow."""

    ready_path = "/v1/models"

    def __init__(self, document):
        # The document's paths are relative to https://…/v1, which the mock ignores.
        spec = INSTALLED / "openapi.yml"
        spec.write_text(re.sub(r"^  /(?=\S+:$)", "  /v1/", document, flags=re.MULTILINE))
        program = ROOT / "e2e/node/node_modules/@stdy/cli-linux-x64/bin/steady"
        parts = ("query-array", "query-object", "form-array", "form-object")
        styles = [f"--validator-{part}-format=brackets" for part in parts]
        options = ["--host", "127.0.0.1", *styles]
        super().__init__("steady", lambda port: [program, *options, "--port", port, spec])


def gateway_before(mock):
    sources = "\n".join((SDK / FOLDER / file).read_text() for file in FILES)
    names = sorted(set(re.findall(r'model="([^"]+)"', sources)))
    models = [{"name": name, "deployments": [{"backend": mock.name, "model": name}]} for name in names]
    return Gateway("gateway-conformance", [backend(mock, "openai")], models, api_key=CLIENT_KEY)


def run_tests(base_url):
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", "-n", "2"]
    command += ["-k", " ".join(SELECTION.split()), *(f"{FOLDER}/{file}" for file in FILES)]
    print("The tests of openai-python:", flush=True)
    environment = {**os.environ, "TEST_API_BASE_URL": base_url}
    return subprocess.run(command, check=False, cwd=SDK, env=environment).returncode


def main():
    spec = os.environ.get("OPENAI_SPEC")
    if not spec:
        print("SKIPPED: openai-python's own tests (OPENAI_SPEC names no description of OpenAI's API).")
        return 0
    with ExitStack() as running:
        server = running.enter_context(Mock(Path(spec).read_text()))
        if os.environ.get("E2E_DIRECT") != "1":
            server = running.enter_context(gateway_before(server))
        return run_tests(f"{server.url}/v1")


if __name__ == "__main__":
    sys.exit(main())
