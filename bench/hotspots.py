#!/usr/bin/env python3
"""Shows where Synapse spends what a request costs: system calls, CPU time and instructions, all per request.

Needs Debian's strace, linux-perf and valgrind; what is missing is left out. Counts of instructions barely
move between runs, so they show what a change is worth; they leave out the kernel, which the other two show.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import gateways
from run import SCENARIOS
from stand import Stand, build

TARGET = gateways.ROOT / "target" / "profile"
NAME = "Synapse"


def build_with_symbols():
    """The release build, but with its symbols and lines."""
    env = os.environ | {"CARGO_PROFILE_RELEASE_DEBUG": "1", "CARGO_PROFILE_RELEASE_STRIP": "none"}
    command = ["nice", "cargo", "build", "--release", "--locked", "--target-dir", TARGET]
    subprocess.run(command, cwd=gateways.ROOT, env=env, check=True)
    return TARGET / "release" / "synapse"


def drive(stand, scenario, requests, seconds=300):
    """Puts so many requests on Synapse."""
    options, *_ = SCENARIOS[scenario]
    if options[0] == "open":
        return stand.load(NAME, options, requests / 200)
    return stand.load(NAME, [*options, "--requests", str(requests)], seconds)


def title(text):
    print(f"\n== {text}\n", flush=True)


def system_calls(stand, child, scenario, requests):
    counts = stand.scratch / "strace"
    tracer = subprocess.Popen(
        ["strace", "-f", "-c", "-U", "calls,name", "-o", counts, "-p", str(child.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    # It says so once it is attached.
    tracer.stderr.readline()
    answered = drive(stand, scenario, requests)["requests"]
    tracer.send_signal(signal.SIGINT)
    tracer.communicate()
    title(f"system calls a request ({answered} requests)")
    for line in counts.read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[0].isdigit() and int(words[0]) / answered >= 0.005:
            print(f"{int(words[0]) / answered:10.2f}  {words[1]}")


def cpu_time(stand, child, scenario, requests, top):
    data = stand.scratch / "perf.data"
    # The clock, since virtual machines often have no counters of cycles.
    recorder = subprocess.Popen(
        ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-o", data, "-p", str(child.pid)]
    )
    time.sleep(0.5)
    result = drive(stand, scenario, requests)
    recorder.send_signal(signal.SIGINT)
    recorder.wait()
    each = result["cpu_us"] / result["requests"]
    title(f"CPU time a request, µs: {each:.1f} in all ({result['requests']} requests)")
    shares(data, "dso", each, 10)
    title("the same by the function it is spent in")
    shares(data, "dso,symbol", each, top)


def shares(data, sort, each, top):
    """Prints how `each` is shared out."""
    command = ["perf", "report", "-i", data, "--stdio", "-q", "--sort", sort]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in [line for line in lines if line.strip()][:top]:
        share, *rest = [word for word in re.split(r"%? {2,}", line.strip()) if word != "-"]
        print(f"{float(share) / 100 * each:10.2f}  {readable('  '.join(rest))}")


def readable(symbol):
    """Without the hashes that make symbols unique."""
    return re.sub(r"::h[0-9a-f]{16}|\[[0-9a-f]{16}\]", "", symbol)[:190].rstrip()


def instructions(scenario, requests, binary, top, settings):
    with Stand() as stand:
        out = stand.scratch / "callgrind"
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "-q", f"--callgrind-out-file={out}"]
        child = gateways.synapse(stand, NAME, binary, prefix=valgrind, **settings)
        drive(stand, scenario, max(requests // 10, 100))
        control = lambda *words: subprocess.run(
            ["callgrind_control", *words, str(child.pid)], check=True, capture_output=True
        )
        control("-i", "on")
        answered = drive(stand, scenario, requests)["requests"]
        control("-i", "off")
        # It writes what it has counted when the process ends.
        child.terminate()
        child.wait(60)
        for kind, flag in (
            ("in the function itself", "no"),
            ("in the function and all that it calls", "yes"),
        ):
            command = ["callgrind_annotate", "--auto=no", "--threshold=100", f"--inclusive={flag}", out]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            rows = [row for row in map(annotated, lines) if row]
            total = next(count for count, name in rows if name == "PROGRAM TOTALS")
            title(f"instructions a request, {kind}: {total / answered:,.0f} in all ({answered} requests)")
            for name, count in by_name(rows, add=flag == "no")[:top]:
                print(f"{count / answered:10,.0f}  {name}")


def by_name(rows, add):
    """The counts by name, largest first. Instances of one generic function go under one name; what they
    and all below them took cannot be added, since one may call another, so there the largest stands."""
    counts = {}
    for count, name in rows:
        if name != "PROGRAM TOTALS":
            so_far = counts.get(name, 0)
            counts[name] = so_far + count if add else max(so_far, count)
    return sorted(counts.items(), key=lambda item: -item[1])


def annotated(line):
    """The count and the name in a line of callgrind's."""
    found = re.match(r"\s*([\d,]+) \([ \d.]+%\)\s+(.*)", line)
    if not found:
        return None
    name = re.sub(r" \[[^]]*\]$", "", found[2])
    # `file:function`; the file tells little more.
    name = name.split(":", 1)[1] if re.match(r"[^:]*\.(rs|c|S|h):|\?\?\?:|[^: ]*/[^: ]*:", name) else name
    return int(found[1].replace(",", "")), readable(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument(
        "--requests", type=int, default=3000, help="under strace and valgrind; perf takes ten times as many"
    )
    parser.add_argument("--top", type=int, default=60, help="functions to show")
    parser.add_argument("--binary", help="a build with symbols, instead of making one")
    parser.add_argument("--governed", action="store_true", help="the key has a prompt, bounds and limits")
    parser.add_argument("--no-search", action="store_true", help="nothing is searched for sensitive data")
    args = parser.parse_args()
    settings = {"governed": args.governed}
    if args.no_search:
        settings["dlp"] = {"enabled": False}
    if not args.binary:
        build()
    binary = args.binary or build_with_symbols()
    with Stand() as stand:
        child = gateways.synapse(stand, NAME, binary, **settings)
        drive(stand, args.scenario, args.requests)
        if shutil.which("strace"):
            system_calls(stand, child, args.scenario, args.requests)
        if shutil.which("perf"):
            cpu_time(stand, child, args.scenario, 10 * args.requests, args.top)
    if shutil.which("valgrind"):
        instructions(args.scenario, args.requests, binary, args.top, settings)
    else:
        print("valgrind is missing: no instructions are counted", file=sys.stderr)


if __name__ == "__main__":
    main()
