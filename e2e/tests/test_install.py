"""One line on the machine of a real engine: its model is there for the callers of a gateway."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness.gateway import API_KEY, Gateway
from harness.process import wait_until
from harness.scripted_model import GREETING
from openai import OpenAI
from samples import ASK

pytestmark = pytest.mark.gateway_only


def test_one_line_brings_a_real_engine_online_and_shows_nothing_secret(stack):
    with Gateway("far", [], []) as gateway, tempfile.TemporaryDirectory(prefix="synapse-e2e-home-") as home:
        made = gateway.manage("worker-key", "create", "--description", "e2e")
        key = made["key"]
        client = OpenAI(base_url=f"{gateway.url}/v1", api_key=API_KEY, max_retries=0, timeout=60)
        output = Path(home, "output")
        with output.open("wb") as log:
            line = 'curl -fsSL "$0/run" | exec bash -s -- "$@"'
            arguments = ["--upstream", stack.puppet.url, "--ws-auth-key", key]
            worker = subprocess.Popen(
                ["/bin/bash", "-c", line, gateway.url, *arguments],
                env={"HOME": home, "PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: "scripted" in [model.id for model in client.models.list()],
                "the model behind the worker",
                alive=lambda: worker.poll() is None,
            )
            reply = client.chat.completions.create(model="scripted", messages=ASK)
            assert reply.choices[0].message.content == GREETING
            assert os.access(Path(home, ".local/bin/synapse-client"), os.X_OK)
            said = output.read_text()
            assert "installed" in said and key not in said
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        assert key not in gateway.log.read_text()
