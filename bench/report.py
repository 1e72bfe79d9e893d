"""What the results of the gateways are turned into: one table, what vouches for it, and the limits."""

import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

import gateways
from stand import HERE, table

BASE = "nginx"
BARE = "bare hyper proxy"
# Column: scenario, figure, digits.
CPU = {
    "1 KB, 32 callers: µs a request": ("nonstream", "cpu_us_per_request", 1),
    "64 events at once, 16 callers: µs an event": ("burst", "cpu_us_per_event", 2),
    "64 events 10 ms apart, 32 callers: µs an event": ("paced", "cpu_us_per_event", 1),
    "1 MB prompt, 8 callers: µs a request": ("body", "cpu_us_per_request", 0),
    "200 requests/s: µs a request": ("open", "cpu_us_per_request", 0),
}
# With fewer requests on each, connections to the upstream are not kept, and the figures say little.
REQUESTS_PER_CONNECTION = 100


def progress(scenario, name, result):
    took, cpu = result["latency_us"] or {}, result["cpu_us_per_event"] or result["cpu_us_per_request"] or 0
    return f"{scenario:9} {name:23} {cpu:8.2f} µs  p50 {took.get('p50', 0) / 1000:8.2f} ms  {result['requests']:7} answers"


class Figures:
    """The figures of a run. A value is the median over the rounds; a ratio is one too, formed in each round."""

    def __init__(self, raw):
        self.raw = raw
        self.results = raw["results"]
        self.rows = list(next(iter(self.results.values())))

    def cpu(self, row, scenario, figure):
        return [slice_[figure] for slice_ in self.results[scenario][row]]

    def cpu_ratios(self, row, scenario, figure, to=BASE):
        pairs = zip(self.cpu(row, scenario, figure), self.cpu(to, scenario, figure), strict=True)
        return [a / b for a, b in pairs]

    def cpu_ratio(self, row, scenario, figure, to=BASE):
        return statistics.median(self.cpu_ratios(row, scenario, figure, to))

    def latency(self, row, percentile):
        return [slice_["latency_us"][percentile] / 1000 for slice_ in self.results["open"][row]]

    def added(self, row, percentile):
        """Milliseconds over what the upstream takes by itself in the same round."""
        pairs = zip(self.latency(row, percentile), self.latency("direct", percentile), strict=True)
        return statistics.median(a - b for a, b in pairs)

    def added_ratio(self, row, percentile):
        value, base = self.added(row, percentile), self.added(BASE, percentile)
        # What cannot be told from noise has no ratio.
        return value / base if value > 0 and base > 0 else None

    def gap(self, row):
        return statistics.median(slice_["gap_us"]["p99"] / 1000 for slice_ in self.results["paced"][row])

    def peak(self, row):
        return max(slice_["memory_mib"] for by_row in self.results.values() for slice_ in by_row[row])

    def requests_per_connection(self, row):
        slices = self.results["nonstream"][row]
        opened = sum(slice_["upstream_connections"] for slice_ in slices)
        return sum(slice_["requests"] for slice_ in slices) / max(1, opened)

    def has(self, scenario):
        return scenario in self.results

    def sum(self, row, figure):
        return sum(slice_[figure] for by_row in self.results.values() for slice_ in by_row[row])


def with_ratio(value, digits, ratio):
    return f"{value:.{digits}f} ({ratio:.2f}×)" if ratio is not None else f"{value:.{digits}f}"


def cells(figures, row):
    """A row of the table: figures, and in brackets how many times nginx's."""
    if row == "direct":
        return itself(figures)
    line = []
    for scenario, figure, digits in CPU.values():
        if figures.has(scenario):
            value = statistics.median(figures.cpu(row, scenario, figure))
            line.append(with_ratio(value, digits, figures.cpu_ratio(row, scenario, figure)))
    if figures.has("open"):
        for percentile in ("p50", "p99"):
            line.append(with_ratio(figures.added(row, percentile), 3, figures.added_ratio(row, percentile)))
    if figures.has("paced"):
        line.append(f"{figures.gap(row):.1f}")
    idle = {name: at_rest["memory_mib"] for name, at_rest in figures.raw["idle"].items()}
    line.append(with_ratio(idle[row], 1, idle[row] / idle[BASE]))
    return [*line, with_ratio(figures.peak(row), 1, figures.peak(row) / figures.peak(BASE))]


def itself(figures):
    """The upstream without any gateway: what the others' latencies are counted from."""
    line = ["–" for scenario, *_ in CPU.values() if figures.has(scenario)]
    if figures.has("open"):
        line += [f"{statistics.median(figures.latency('direct', p)):.3f} in all" for p in ("p50", "p99")]
    if figures.has("paced"):
        line.append(f"{figures.gap('direct'):.1f}")
    return [*line, "–", "–"]


def columns(figures):
    head = [f"CPU, {title}" for title, (scenario, *_) in CPU.items() if figures.has(scenario)]
    head += ["200 requests/s: added p50, ms", "added p99, ms"] if figures.has("open") else []
    head += ["10 ms apart: p99 of the gap, ms"] if figures.has("paced") else []
    return [*head, "memory idle, MiB", "at its peak, MiB"]


def limits(figures):
    """Synapse's limits as a table; nothing fails because of them."""
    rows = []
    if figures.has("open"):
        value = figures.added_ratio("Synapse", "p50")
        rows.append(["added p50 at 200 requests/s ÷ nginx", *verdict(value, 2.0), "–"])
    for what, row, column, to, limit in [
        ("CPU a request, 1 KB", gateways.PROXYING, 0, BASE, 1.6),
        ("CPU an event, 64 at once", gateways.PROXYING, 1, BASE, 1.6),
        ("CPU an event, 10 ms apart", gateways.PROXYING, 2, BARE, 1.25),
        ("CPU a request, 1 KB", gateways.GOVERNED, 0, gateways.UNSEARCHED, 1.3),
        ("CPU an event, 64 at once", gateways.GOVERNED, 1, gateways.UNSEARCHED, 2.0),
        ("CPU a request, both processes, 1 KB", gateways.WORKER, 0, "Synapse", 2.5),
    ]:
        scenario, figure, _ = list(CPU.values())[column]
        if figures.has(scenario):
            ratios = figures.cpu_ratios(row, scenario, figure, to)
            low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            line = [f"{what}: {row} ÷ {to}", *verdict(statistics.median(ratios), limit)]
            rows.append([*line, f"{low:.2f}–{high:.2f}"])
    return table(["Synapse's limits", "value", "limit", "", "middle half of the slices"], rows)


def verdict(value, limit):
    """The cells of a value, its limit, and whether it is kept."""
    if value is None:
        return "–", f"{limit:g}", "not known"
    return f"{value:.2f}", f"{limit:g}", "pass" if value <= limit else "fail"


def vouchers(figures):
    """What would make figures worthless, if it were otherwise."""
    lines = []
    errors = {row: figures.sum(row, "errors") for row in figures.rows}
    failed = ", ".join(f"{row} {n}" for row, n in errors.items() if n)
    lines.append(
        f"- Requests: {sum(figures.sum(row, 'requests') for row in figures.rows):,}; failed: {failed or 'none'}."
    )
    others = [row for row in figures.rows if row != "direct"]
    if figures.has("nonstream"):
        per = {row: figures.requests_per_connection(row) for row in others}
        each = [
            f"{row} {n:,.0f}{' (not kept!)' if n < REQUESTS_PER_CONNECTION else ''}" for row, n in per.items()
        ]
        lines.append(f"- Requests of 1 KB on each connection opened to the upstream: {', '.join(each)}.")
    if figures.has("open"):
        late = [slice_["late_us"]["p50"] for slices in figures.results["open"].values() for slice_ in slices]
        lines.append(
            f"- The load generator releases a request {statistics.median(late):.0f} µs after it is due (median); "
            "that is part of all latencies, and cancels out in what is added."
        )
    rest = {row: figures.raw["idle"][row]["cpu_us"] for row in others}
    lines.append(
        "- CPU that each takes with nothing to do, µs a second: "
        + ", ".join(f"{row} {us:.0f}" for row, us in rest.items())
        + "; the figures at 200 requests/s have a 200th of it."
    )
    lines.append(f"- Log lines that Synapse had to drop: {figures.raw['log_lines_dropped']:.0f}.")
    return "\n".join(lines) + "\n"


def machine():
    """The machine and the versions, as the table's first lines."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    total = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    kernel = ".".join(platform.release().split(".")[:2])
    parts = [
        cpu[1] if cpu else platform.machine(),
        f"{os.cpu_count()} cores",
        f"{total / 2**20:.0f} GiB",
        f"Linux {kernel}",
        f"load {os.getloadavg()[0]:.1f} before the run",
    ]
    return ", ".join(parts) + "; " + ", ".join(versions()) + "."


def versions():
    def said(binary, *flags, env=None):
        done = subprocess.run([binary, *flags], capture_output=True, text=True, check=True, env=env)
        return re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)[0]

    nginx, env = gateways.from_debian("nginx")
    yield f"nginx {said(nginx, '-v', env=env)}"
    haproxy, env = gateways.from_debian("haproxy")
    yield f"HAProxy {said(haproxy, '-v', env=env)}"
    lock = (HERE / "Cargo.lock").read_text()
    for crate in ("hyper", "tokio"):
        version = re.search(rf'name = "{crate}"\nversion = "(.*)"', lock)[1]
        yield f"{crate} {version}"
    yield f"Synapse {said(gateways.SYNAPSE, '--version')}"


def text(raw):
    figures = Figures(raw)
    return "\n".join(
        [
            raw["machine"],
            f"{raw['rounds']} rounds. Values are medians; in brackets, how many times nginx's.\n",
            table(["", *columns(figures)], [[row, *cells(figures, row)] for row in figures.rows]),
            vouchers(figures),
            limits(figures),
        ]
    )


def write(text_, readme):
    """Puts the text between the marks in the README."""
    begin, end = "<!-- gateways: begin -->\n", "<!-- gateways: end -->\n"
    page = readme.read_text()
    if begin not in page or end not in page:
        sys.exit(f"{readme} has no place for the table")
    before, rest = page.split(begin)
    readme.write_text(before + begin + "\n" + text_ + "\n" + end + rest.split(end)[1])
