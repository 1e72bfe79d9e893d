"""The processes under load: how they are built, started, driven, watched and ended."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BIN = HERE / "target" / "release"
CORES = 2
# Between two looks at the memory of a process.
MEMORY_EVERY = 0.05


def build():
    """Builds the upstream, the load generator and the bare proxy."""
    subprocess.run(["nice", "cargo", "build", "--release", "--locked"], cwd=HERE, check=True)


def free_address():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def port(address):
    return int(address.rsplit(":", 1)[1])


def family(pid):
    """A process and all below it."""
    below = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        below += [int(child) for child in (task / "children").read_text().split()]
    return [pid, *(p for child in below for p in family(child))]


def memory(pids):
    """The resident memory of processes in MiB; what several of them share counts once (Pss)."""
    total = 0
    for pid in pids:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_us(pids):
    """CPU time that the living threads of processes have used."""
    stats = [stat for pid in pids for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(stat.read_text().split()[0]) for stat in stats) / 1000


class Peak:
    """The largest memory of processes while the block runs."""

    def __init__(self, pids):
        self.pids = pids
        self.value = memory(pids)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        # A process that has died fails the load too, which is where that is told.
        with contextlib.suppress(OSError):
            while not self.done.wait(MEMORY_EVERY):
                self.value = max(self.value, memory(self.pids))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


class Row:
    """Something that is put under load: where it listens, and the processes whose cost counts."""

    def __init__(self, name, address, pids=(), key=None, log=None, metrics=None):
        self.name = name
        self.address = address
        self.pids = list(pids)
        self.key = key
        self.log = log
        self.metrics = metrics


class Stand:
    """The upstream and the rows before it, all running at once; leaving the block ends them."""

    def __init__(self):
        # Ends like any other way out: with the processes that were started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
        self.folder = tempfile.TemporaryDirectory(prefix="synapse-bench-")
        self.scratch = pathlib.Path(self.folder.name)
        self.started = []
        self.rows = {}
        self.upstream = free_address()

    def __enter__(self):
        self.start([BIN / "bench-upstream", "--listen", self.upstream], self.upstream)
        return self

    def __exit__(self, *_):
        for child in self.started:
            child.send_signal(signal.SIGTERM)
        for child in self.started:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.folder.cleanup()

    def start(self, command, address, patience=20, **options):
        """Starts a process and waits until it listens."""
        child = subprocess.Popen([str(word) for word in command], **options)
        self.started.append(child)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if child.poll() is not None:
                sys.exit(f"{command[0]} ended with status {child.returncode}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port(address)), 1).close()
                return child
            time.sleep(0.01)
        sys.exit(f"{command[0]} does not listen on {address}")

    def add(self, row, patience=20):
        """Adds a row once it answers a request."""
        body = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "Hello"}]}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {row.key}"}
        request = urllib.request.Request(f"http://{row.address}/v1/chat/completions", body, headers)
        until = time.monotonic() + patience
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    json.load(answer)
                break
            except urllib.error.HTTPError as error:
                problem = f"status {error.code}: {error.read()[:300]!r}"
            except OSError as error:
                problem = str(error)
            if time.monotonic() > until:
                sys.exit(f"{row.name} does not answer: {problem}")
            time.sleep(0.02)
        self.rows[row.name] = row

    def get(self, url):
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()

    def upstream_connections(self):
        """How many connections the upstream has accepted so far."""
        return int(self.get(f"http://{self.upstream}/connections"))

    def load(self, name, options, seconds, warmup=0.0):
        """Puts load on a row; what the load generator reports, and what came of it besides."""
        row = self.rows[name]
        command = [BIN / "bench-load", *options, "--address", row.address, "--seconds", str(seconds)]
        command += ["--warmup", str(warmup)] if warmup and options[0] == "closed" else []
        command += ["--pids", ",".join(map(str, row.pids))] if row.pids else []
        command += ["--key", row.key] if row.key else []
        before = self.upstream_connections()
        with Peak(row.pids) as peak:
            result = json.loads(subprocess.check_output(command, timeout=seconds + warmup + 60))
        # Less the one that asks.
        result["upstream_connections"] = self.upstream_connections() - before - 1
        result["memory_mib"] = peak.value
        if row.log:
            result["log_bytes"] = row.log.stat().st_size
            os.truncate(row.log, 0)
        if result["errors"]:
            print(f"{name}: {result['errors']} errors: {result['first_error']}", file=sys.stderr)
        return result


def in_turn(names, round_number):
    """The names, beginning with another one each round."""
    shift = round_number % len(names)
    return names[shift:] + names[:shift]


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
