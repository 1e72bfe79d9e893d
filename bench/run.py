#!/usr/bin/env python3
"""Measures Synapse beside nginx, HAProxy and a bare proxy of the same crates, and prints one table.

All of them run at the same time and take turns under load in short slices, round after round, so that
whatever else the machine does meets them all alike. README.md says what is measured and how to read it.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import gateways
import report
from stand import HERE, Stand, build, cpu_us, in_turn, memory

# name: what the load generator is told, the share of --seconds that a slice has, and slices per round. Many short
# slices spread a disturbance over all rows, which percentiles and little load need most.
SCENARIOS = {
    "nonstream": (["closed", "--connections", "32"], 0.5, 2),
    "burst": (["closed", "--connections", "16", "--reply", "burst"], 0.5, 2),
    "paced": (["closed", "--connections", "32", "--reply", "paced", "--spread-ms", "10"], 0.75, 4),
    "body": (["closed", "--connections", "8", "--prompt-bytes", "1048576"], 0.5, 2),
    "open": (["open", "--connections", "8", "--rate", "200"], 0.75, 4),
}
# Seconds over which idle gateways are watched; Synapse looks at its backends every five.
REST = 5


def start_all(stand, args):
    gateways.direct(stand)
    gateways.nginx(stand)
    gateways.haproxy(stand)
    if "envoy" in args.peers:
        gateways.envoy(stand)
    gateways.bare(stand)
    gateways.synapse(stand)
    gateways.synapse(stand, "Synapse, no access log", logs={"access": False})
    gateways.synapse(stand, gateways.PROXYING, dlp={"enabled": False}, audit={"enabled": False})
    gateways.synapse(stand, gateways.UNAUDITED, audit={"enabled": False})
    gateways.synapse(stand, gateways.UNSEARCHED, dlp={"enabled": False})
    gateways.synapse(stand, gateways.GOVERNED, governed=True)
    gateways.synapse(stand, gateways.WORKER, worker=True)
    for name, binary in args.build:
        gateways.synapse(stand, name, binary)


def rest(stand):
    """What each row takes when nothing comes: memory, and CPU time a second."""
    time.sleep(1)
    before = {name: cpu_us(row.pids) for name, row in stand.rows.items()}
    time.sleep(REST)
    used = {name: (cpu_us(row.pids) - before[name]) / REST for name, row in stand.rows.items()}
    return {name: {"memory_mib": memory(row.pids), "cpu_us": used[name]} for name, row in stand.rows.items()}


def measure(stand, args):
    """The results of every slice: scenario, row, round."""
    results = {scenario: {name: [] for name in stand.rows} for scenario in args.only or SCENARIOS}
    for i in range(args.rounds):
        for scenario, by_row in results.items():
            options, share, slices = SCENARIOS[scenario]
            for turn in range(slices):
                for name in in_turn(list(stand.rows), i * slices + turn):
                    result = stand.load(name, options, args.seconds * share, warmup=0.2)
                    by_row[name].append(result)
                    line = report.progress(scenario, name, result)
                    print(f"round {i + 1} of {args.rounds}  {line}", file=sys.stderr)
    return results


def named_build(text):
    name, _, path = text.partition("=")
    binary = pathlib.Path(path).resolve()
    if not name or not os.access(binary, os.X_OK):
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=PATH with the path of a synapse binary")
    return name, binary


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="of load per scenario, row and round; some take three times as much",
    )
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="a scenario; repeat it for more")
    parser.add_argument(
        "--peers", action="append", choices=["envoy"], default=[], help="a peer besides nginx and HAProxy"
    )
    parser.add_argument(
        "--build",
        action="append",
        type=named_build,
        default=[],
        metavar="NAME=PATH",
        help="a further row: another build of Synapse",
    )
    parser.add_argument("--write", action="store_true", help="also write the table into bench/README.md")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "out", help="folder for the raw results")
    parser.add_argument("--no-build", action="store_true")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write needs all scenarios")
    return args


def main():
    args = arguments()
    if not args.no_build:
        build()
        gateways.build_synapse()
    machine = report.machine()
    with Stand() as stand:
        start_all(stand, args)
        idle = rest(stand)
        results = measure(stand, args)
        dropped = sum(
            gateways.metric(stand, row, "synapse_log_events_dropped_total")
            for row in stand.rows.values()
            if row.metrics
        )
    args.out.mkdir(exist_ok=True)
    raw = {
        "machine": machine,
        "rounds": args.rounds,
        "idle": idle,
        "log_lines_dropped": dropped,
        "results": results,
    }
    (args.out / "gateways.json").write_text(json.dumps(raw, indent=1))
    text = report.text(raw)
    print(text)
    if args.write:
        report.write(text, HERE / "README.md")


if __name__ == "__main__":
    main()
