#!/usr/bin/env python3
"""Compares the runtime layouts of the bare proxy with each other and with nginx, and prints tables: the
measurement behind ADR 1.

All proxies run at the same time and take turns under load in short slices; ratios are formed within a round.
Figures are CPU time of the proxy's own processes.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import gateways
from stand import HERE, Stand, build, in_turn, table

LAYOUTS = ["stealing", "reuseport", "handoff"]

# name: what the load generator is told, and the figure to compare.
WORKLOADS = {
    "plain": (["closed", "--connections", "32"], "cpu_us_per_request"),
    "few": (["closed", "--connections", "4"], "cpu_us_per_request"),
    "fresh": (["closed", "--connections", "16", "--fresh", "--requests", "15000"], "cpu_us_per_request"),
    "burst": (["closed", "--connections", "16", "--reply", "burst"], "cpu_us_per_event"),
    "paced": (["closed", "--connections", "32", "--reply", "paced"], "cpu_us_per_event"),
    "open": (["open", "--connections", "8", "--rate", "200"], "cpu_us_per_request"),
}
# Percentiles at a fixed rate need more than one slice.
SHARE = {"open": 3, "busy": 3}
COLUMNS = {
    "plain": "non-stream, 32 connections, µs per request",
    "few": "the same, 4 connections",
    "fresh": "a connection per request, µs per request",
    "burst": "64 events at once, µs per event",
    "paced": "64 events 10 ms apart, µs per event",
    "open": "200 requests/s, µs per request",
}
RATIOS = "ratio of CPU: median of the rounds (in how many it was above 1)"
PAIRS = [*[(layout, "nginx") for layout in LAYOUTS], ("stealing", "reuseport"), ("handoff", "reuseport")]
# Not a divisor of the rate: the two kinds of request should meet at any distance.
BUSY = ["open", "--connections", "8", "--rate", "200", "--busy-rate", "17", "--busy-us", "5000"]


def start_all(stand):
    for layout in LAYOUTS:
        gateways.bare(stand, layout, layout)
    gateways.nginx(stand)


def starts_a_second_time(stand, layout):
    """Whether a second proxy starts on the address of the first instead of refusing."""
    command = gateways.bare_command(stand, layout, stand.rows[layout].address)
    second = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
    try:
        second.wait(1)
        return False
    except subprocess.TimeoutExpired:
        second.terminate()
        second.wait()
        return True


def measure_cost(stand, rounds, seconds):
    results = {w: {name: [] for name in stand.rows} for w in [*WORKLOADS, "busy"]}
    for i in range(rounds):
        for workload, (options, figure) in WORKLOADS.items():
            for name in in_turn(list(stand.rows), i):
                result = stand.load(name, options, seconds * SHARE.get(workload, 1), warmup=0.2)
                results[workload][name].append(result)
                print(f"round {i + 1} {workload:6} {name:10} {result[figure]:8.2f}", file=sys.stderr)
        # nginx does not know the header that keeps a thread busy.
        for name in in_turn(LAYOUTS, i):
            results["busy"][name].append(stand.load(name, BUSY, seconds * SHARE["busy"]))
    return results


def busiest_share(stand, name, result):
    """The share of CPU time of the thread (of nginx: the process) that served most."""
    master = stand.rows[name].pids[0]
    served = [
        t["cpu_us"]
        for t in result["threads"]
        if t["name"].startswith("core-") or (name == "nginx" and t["pid"] != master)
    ]
    return max(served) / sum(served)


def measure_balance(stand, runs):
    """For each number of connections, the busiest core's share in each run."""
    shares = {n: {name: [] for name in stand.rows} for n in (2, 3, 4, 8)}
    for connections, by_name in shares.items():
        options = ["closed", "--connections", str(connections)]
        for i in range(runs):
            for name in in_turn(list(stand.rows), i):
                by_name[name].append(busiest_share(stand, name, stand.load(name, options, 0.25)))
    return shares


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def cost_table(results):
    digits = {"burst": 2}
    rows, ratios = [], []
    for workload, (_, figure) in WORKLOADS.items():
        values = {name: [r[figure] for r in runs] for name, runs in results[workload].items()}
        rows.append([COLUMNS[workload], *[spread(v, digits.get(workload, 1)) for v in values.values()]])
        ratios.append([COLUMNS[workload], *[ratio(values, *pair) for pair in PAIRS]])
    return (
        table(["CPU of the proxy: median (range)", *results["plain"]], rows)
        + "\n"
        + table([RATIOS, *[f"{a} ÷ {b}" for a, b in PAIRS]], ratios)
    )


def ratio(values, name, to):
    ratios = [a / b for a, b in zip(values[name], values[to], strict=True)]
    return f"{statistics.median(ratios):.2f} ({sum(r > 1 for r in ratios)})"


def latency_table(results):
    def row(title, workload, percentile):
        runs = results[workload].values()
        values = [[r["latency_us"][percentile] / 1000 for r in of_one] for of_one in runs]
        return [title, *[spread(v, 2) if v else "–" for v in values]]

    rows = [
        row("200 requests/s on 8 connections: p50", "open", "p50"),
        row("p99", "open", "p99"),
        row("beside 17 requests/s that keep their thread busy for 5 ms: p50", "busy", "p50"),
        row("p90", "busy", "p90"),
        row("p99", "busy", "p99"),
    ]
    return table(["latency in ms: median (range)", *results["plain"]], rows)


def balance_table(shares, idle):
    rows = []
    for connections, by_name in shares.items():
        cells = []
        for runs in by_name.values():
            left_idle = sum(share > 1 - idle for share in runs)
            cells.append(f"{left_idle} of {len(runs)}; {100 * statistics.mean(runs):.0f} %")
        rows.append([connections, *cells])
    head = ["connections: runs with an idle core; the busiest core's share", *shares[2]]
    return table(head, rows)


def second_start_table(outcomes):
    rows = [
        [name, "starts, and takes a share" if starts else "refuses: address in use"]
        for name, starts in outcomes.items()
    ]
    return table(["layout", "a second process on the same address"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.7, help="of load per workload, proxy and round")
    parser.add_argument("--runs", type=int, default=20, help="per number of connections, for the balance")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "out", help="folder for the raw results")
    parser.add_argument("--no-build", action="store_true")
    args = parser.parse_args()
    if not args.no_build:
        build()
    with Stand() as stand:
        start_all(stand)
        results = measure_cost(stand, args.rounds, args.seconds)
        shares = measure_balance(stand, args.runs)
        second = {name: starts_a_second_time(stand, name) for name in LAYOUTS}
    args.out.mkdir(exist_ok=True)
    raw = {"cost": results, "balance": shares, "second_start": second}
    (args.out / "layouts.json").write_text(json.dumps(raw, indent=1))
    for text in (
        cost_table(results),
        latency_table(results),
        balance_table(shares, 0.05),
        second_start_table(second),
    ):
        print(text)


if __name__ == "__main__":
    main()
