"""The table and the plots of docs/performance.md."""

import json
import platform
import re
from pathlib import Path

import matplotlib

from servers import redis_version, version

matplotlib.use("svg")
matplotlib.rcParams.update({
    "svg.hashsalt": "ratekeeper",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
})

import matplotlib.pyplot as plt  # noqa: E402, after the choice of what draws

PAGE = Path("docs/performance.md")
DIRECTORY = Path("docs/performance")
BEGIN, END = "<!-- table begins -->", "<!-- table ends -->"


def table(rows, rounds, seconds, threads):
    lines = [machine(), ""]
    lines.append(f"{rounds} rounds of {seconds:g} s, medians (least to most); {threads} server thread(s).")
    lines += ["", "| measure | bound | measured | both sides | |", "|---|---|---|---|---|"]
    for row in rows:
        spread = f" ({number(min(row.values))} to {number(max(row.values))})" if len(row.values) > 1 else ""
        measured = f"{number(row.value)} {row.unit}{spread}"
        bound = f"{number(row.bound)} {row.unit}" if row.bound is not None else ""
        mark = "" if row.bound is None else "met" if row.met else "**missed**"
        lines.append(f"| {row.measure} | {bound} | {measured} | {row.sides} | {mark} |")
    return "\n".join(lines)


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value < 0.1 else f"{value:.2f}"


def machine():
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    cores = len(re.findall(r"^processor", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    return (f"{model.group(1) if model else platform.machine()}, {cores} cores shared by server, Redis and load; "
            f"Linux {platform.release().split('-')[0]}, Redis {redis_version()}, {version(['rustc', '--version'])}.")


def write(run, threads):
    """Puts the table between the marks of the page, and the plots beside it."""
    text = table(run.rows, run.rounds, run.seconds, threads)
    print(text)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    results = [{"measure": r.measure, "bound": r.bound, "unit": r.unit, "values": r.values} for r in run.rows]
    (DIRECTORY / "results.json").write_text(json.dumps({"rows": results, "plots": run.plots}, indent=1) + "\n")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    for name, draw in (("servers", servers), ("keys", keys), ("latency", latency)):
        if name in run.plots:
            figure, axes = plt.subplots(figsize=(7, 3.4))
            draw(axes, run.plots[name])
            figure.tight_layout()
            figure.savefig(DIRECTORY / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)


def servers(axes, found):
    """CPU per decision, server and Redis on each other, in groups by streams."""
    kinds = ["empty", "memory", "redis", "naive"]
    for name, cost in found.items():
        kind, streams = name.split()
        x = (16, 64, 256).index(int(streams)) * 5 + kinds.index(kind)
        axes.bar(x, cost["server"], color="#2b6cb0")
        axes.bar(x, cost["redis"], bottom=cost["server"], color="#c05621")
        axes.text(x, cost["server"] + cost["redis"], f"{cost['server'] + cost['redis']:.1f}", ha="center", va="bottom")
    ticks = [group * 5 + kind for group in range(3) for kind in range(4)]
    axes.set_xticks(ticks, kinds * 3, rotation=45, ha="right")
    for group, streams in enumerate((16, 64, 256)):
        axes.text(group * 5 + 1.5, -0.42, f"{streams} streams", ha="center", transform=axes.get_xaxis_transform())
    axes.set_ylabel("CPU per decision, us")
    axes.set_title("What a decision costs: server (blue) and Redis (orange)")


def keys(axes, found):
    counts, values = list(found), list(found.values())
    axes.plot(counts, values, marker="o", color="#2b6cb0")
    for count, value in found.items():
        axes.annotate(f"{value:.1f}", (count, value), textcoords="offset points", xytext=(0, 7), ha="center")
    axes.set_xscale("log")
    axes.set_ylim(0, max(values) * 1.3)
    axes.set_xlabel("keys")
    axes.set_ylabel("server CPU per decision, us")
    axes.set_title("Memory mode, 64 streams")


def latency(axes, found):
    """Percentiles at half load."""
    quantiles = ["p50", "p90", "p99", "p999"]
    for name, color in (("redis", "#2b6cb0"), ("naive", "#c05621")):
        values = [found[name][q] / 1000 for q in quantiles]
        axes.plot(quantiles, values, marker="o", color=color, label={"redis": "ratekeeper", "naive": "naive"}[name])
    axes.set_xticks(range(4), ["p50", "p90", "p99", "p99.9"])
    axes.set_yscale("log")
    axes.set_ylabel("latency, ms")
    axes.set_title("On Redis, each at half of its highest throughput")
    axes.legend(frameon=False)
