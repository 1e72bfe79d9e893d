"""One engine of each kind behind one gateway: what most tests talk to."""

import os
from contextlib import ExitStack

from .engines import EmbeddingServer, LlamaServer
from .gateway import API_KEY, Gateway, backend
from .process import free_port

# The scripted model, under a name with a slash.
PUPPET = "acme/puppet-1b"
# Lives on an engine that is down, and falls back to the puppet.
FRAGILE = "acme/fragile"
GEMMA = "gemma"
EMBEDDER = "multilingual-e5-small"


class Stack(ExitStack):
    """Starts everything. With E2E_DIRECT=1 callers are sent straight to the engines, which shows what the engines
    themselves do; there is no gateway then."""

    def __enter__(self):
        super().__enter__()
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def start(self):
        self.direct = os.environ.get("E2E_DIRECT") == "1"
        self.puppet = self.enter_context(LlamaServer("puppet", "scripted"))
        self.gemma = self.enter_context(LlamaServer("gemma", "gemma", slots=1))
        self.embedder = self.enter_context(EmbeddingServer("embedder"))
        if not self.direct:
            self.gateway = self.enter_context(Gateway("gateway", self.backends(), self.models()))

    def backends(self):
        absent = {"name": "absent", "type": "llama-cpp", "url": f"http://127.0.0.1:{free_port()}/v1"}
        return [backend(self.puppet), backend(self.gemma), backend(self.embedder, "openai"), absent]

    def models(self):
        def on(backend, model):
            return [{"backend": backend, "model": model}]

        return [
            {"name": PUPPET, "aliases": ["default"], "deployments": on("puppet", "scripted")},
            {"name": FRAGILE, "deployments": on("absent", "scripted"), "fallbacks": [PUPPET]},
            {"name": GEMMA, "deployments": on("gemma", "gemma")},
            {"name": EMBEDDER, "deployments": on("embedder", "multilingual-e5-small-q4")},
        ]

    def base_url(self, model):
        """Where a caller of `model` sends its requests."""
        engines = {PUPPET: self.puppet, GEMMA: self.gemma, EMBEDDER: self.embedder}
        server = engines[model] if self.direct else self.gateway
        return f"{server.url}/v1"

    def environment(self):
        """The same for programs in other languages."""
        return {
            "E2E_API_KEY": API_KEY,
            "E2E_DIRECT": "1" if self.direct else "",
            "E2E_PUPPET": PUPPET,
            "E2E_PUPPET_URL": self.base_url(PUPPET),
            "E2E_EMBEDDER": EMBEDDER,
            "E2E_EMBEDDER_URL": self.base_url(EMBEDDER),
        }
