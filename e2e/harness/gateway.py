"""The gateway under test, with a configuration made for the run."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import yaml

from .process import ROOT, Server, free_port

API_KEY = "e2e-static-key"


def binary():
    path = Path(os.environ.get("SYNAPSE_BIN", ROOT / "target/debug/synapse")).resolve()
    if not path.exists():
        raise FileNotFoundError(f"{path}: build it with `cargo build`, or name another in SYNAPSE_BIN")
    return path


def backend(engine, kind="llama-cpp"):
    """An entry of `backends:` for a running engine."""
    return {"name": engine.name, "type": kind, "url": f"{engine.url}/v1"}


class Gateway(Server):
    ready_path = "/readyz"

    def __init__(self, name, backends, models, api_key=API_KEY):
        self.folder = tempfile.TemporaryDirectory(prefix="synapse-e2e-")
        self.config = Path(self.folder.name, "synapse.yaml")
        metrics = {"host": "127.0.0.1", "port": free_port()}
        config = {
            "server": {"metrics": metrics},
            "data_dir": f"{self.folder.name}/data",
            "backends": backends,
            "models": models,
        }
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

        def command(port):
            words = [binary(), "serve", "--config", self.config, "--host", "127.0.0.1", "--port", port]
            return [*words, "--api-auth-key", api_key]

        super().__init__(name, command)

    def manage(self, *words):
        """Runs a management command beside the running gateway and returns its JSON document."""
        command = [binary(), *words, "--config", self.config, "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60)
        return json.loads(done.stdout)

    def stop(self):
        super().stop()
        self.folder.cleanup()
