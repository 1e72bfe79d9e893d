"""Child processes that serve HTTP: start, wait until ready, kill."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".e2e"
LOGS = INSTALLED / "logs"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=60, every=0.02, alive=lambda: True):
    """Polls another process; the deadline only bounds a failure, a passing run never meets it."""
    deadline = time.monotonic() + seconds
    while not condition():
        if not alive() or time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen")
        time.sleep(every)


class Server:
    """A process that listens on a free port of this machine. Its output goes to `.e2e/logs/NAME.log`."""

    ready_path = "/health"

    def __init__(self, name, command, environment=None):
        LOGS.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = LOGS / f"{name}.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # A developer's own settings must not reach the gateway under test.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SYNAPSE_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command(self.port)],
                env=inherited | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self):
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def get(self, path):
        """The body behind a path, or None while the server does not answer with 200."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as reply:
                return reply.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def wait_until_ready(self):
        def answers():
            return self.get(self.ready_path) is not None

        def runs():
            return self.process.poll() is None

        try:
            wait_until(answers, f"{self.name}: a 200 from {self.ready_path}", alive=runs)
        except TimeoutError as error:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{error}; {self.log} ends with:\n{tail}") from None

    def kill(self):
        """Ends the process as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.kill()
