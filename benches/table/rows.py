"""What is measured. Each measurement yields rows; within a round, its variants take turns."""

from dataclasses import dataclass, field
from statistics import median

from servers import bench, cpu, fill

KEYS = 100_000
STREAMS = (16, 64, 256)


def rules(rate=1_000_000, unit="second", extra=0):
    """One limit for each client, and so many rules that nobody asks for beside it."""
    limit = f"rate_limit: {{ unit: {unit}, requests_per_unit: {rate} }}"
    others = "".join(f"  - {{ key: other, value: v{i}, {limit} }}\n" for i in range(extra))
    return f"domain: bench\ndescriptors:\n{others}  - {{ key: client, {limit} }}\n"


@dataclass
class Row:
    """A line of the table: what was measured over the rounds, and what was hoped for."""

    measure: str
    bound: float | None
    unit: str
    values: list
    sides: str = ""

    @property
    def value(self):
        return median(self.values)

    @property
    def met(self):
        return self.bound is None or self.value <= self.bound


@dataclass
class Run:
    """What the measurements share."""

    house: object
    rounds: int
    seconds: float
    rows: list = field(default_factory=list)
    plots: dict = field(default_factory=dict)

    def turns(self, variants):
        """Measures each variant once per round, in turn; gives lists in the order of the rounds."""
        found = {name: [] for name in variants}
        for number in range(self.rounds):
            for name, measure in variants.items():
                found[name].append(measure())
                print(f"  round {number + 1}: {name}: {told(found[name][-1])}", flush=True)
        return found

    def ratio(self, measure, bound, above, below):
        values = [a / b for a, b in zip(above, below)]
        sides = f"{median(above):.2f} / {median(below):.2f} us"
        self.rows.append(Row(measure, bound, "x", values, sides))

    def closed(self, server, *options, streams=64, keys=KEYS, watch=(), warm_up=1):
        options = ("--streams", streams, "--connections", 4, "--keys", keys, *options)
        return lambda: bench(server, *options, seconds=self.seconds, warm_up=warm_up, watch=watch)

    def at_rate(self, server, rate, *options, keys=KEYS, watch=()):
        options = ("--rate", rate, "--connections", 4, "--keys", keys, *options)
        return bench(server, *options, seconds=self.seconds, warm_up=1, watch=watch)


def told(found):
    costs = ", ".join(f"{p['name']} {p['cpu_us_per_decision']:.2f}" for p in found["processes"])
    return f"{found['decisions_per_second']:.0f}/s, {costs} us"


def costs(runs, *names):
    return [cpu(found, *names) for found in runs]


# --- The measurements ---


def servers(run):
    """memory mode, Redis mode, the empty handler and the naive server at three loads"""
    redis, naive_redis = run.house.redis(), run.house.redis()
    memory = run.house.ratekeeper(rules())
    shared = run.house.ratekeeper(rules(), redis)
    empty = run.house.baseline("empty")
    naive = run.house.baseline("naive", naive_redis.address)
    variants = {}
    for streams in STREAMS:
        variants[f"empty {streams}"] = run.closed(empty, streams=streams)
        variants[f"memory {streams}"] = run.closed(memory, streams=streams)
        # Long enough that nearly all keys exist.
        at = {"streams": streams, "warm_up": 4}
        variants[f"redis {streams}"] = run.closed(shared, **at, watch={"redis": redis})
        variants[f"naive {streams}"] = run.closed(naive, **at, watch={"redis": naive_redis})
    found = run.turns(variants)
    total = {name: costs(runs) for name, runs in found.items()}
    for streams in STREAMS:
        run.ratio(f"memory mode vs the empty handler, {streams} streams", 1.25,
                  total[f"memory {streams}"], total[f"empty {streams}"])
    for streams, bound in zip(STREAMS, (2.5, 2.1, 1.9)):
        run.ratio(f"Redis mode (server + Redis) vs memory mode, {streams} streams", bound,
                  total[f"redis {streams}"], total[f"memory {streams}"])
    for streams, bound in ((64, 0.5), (256, 0.4)):
        run.ratio(f"Redis mode vs the naive server (server + Redis), {streams} streams", bound,
                  total[f"redis {streams}"], total[f"naive {streams}"])
    run.rows.append(Row("Redis, distinct keys, 256 streams", 3.0, "us", costs(found["redis 256"], "redis")))
    run.plots["servers"] = {
        name: {
            "server": median(costs(runs, "server")),
            "redis": median(costs(runs)) - median(costs(runs, "server")),
            "rate": median(f["decisions_per_second"] for f in runs),
        }
        for name, runs in found.items()
    }


def hot(run):
    """one hot key, admitted and denied, at 256 streams"""
    redis = run.house.redis()
    watch = {"redis": redis}
    admitted = run.house.ratekeeper(rules(), redis)
    denied = run.house.ratekeeper(rules(1, "year"), redis)
    one = ("--distribution", "one")
    found = run.turns({
        "hot key admitted": run.closed(admitted, *one, "--descriptor", "client=yes", streams=256, watch=watch),
        "hot key denied": run.closed(denied, *one, "--descriptor", "client=no", streams=256, watch=watch),
    })
    for name, bound in (("hot key admitted", 0.6), ("hot key denied", 0.05)):
        run.rows.append(Row(f"Redis, one {name}, 256 streams", bound, "us", costs(found[name], "redis")))


def denied(run):
    """all denied against all admitted, at 64 streams"""
    # A flood of few clients: each of them asks many times a second.
    keys, redis = 1_000, run.house.redis()
    watch = {"redis": redis}
    admits = run.house.ratekeeper(rules(), redis)
    denies = run.house.ratekeeper(rules(1, "year"), redis)
    fill(denies, keys, "--descriptor", "client=d{}")
    found = run.turns({
        "all admitted": run.closed(admits, "--descriptor", "client=a{}", keys=keys, watch=watch, warm_up=2),
        "all denied": run.closed(denies, "--descriptor", "client=d{}", keys=keys, watch=watch, warm_up=2),
    })
    for result in found["all denied"]:
        if result["verdicts"]["OVER_LIMIT"] < 0.99 * result["decisions"]:
            raise RuntimeError(f"not all were denied: {result['verdicts']}")
    run.ratio("all denied vs all admitted (server + Redis), 1,000 keys, 64 streams", 0.65,
              costs(found["all denied"]), costs(found["all admitted"]))


def descriptors(run):
    """three descriptors per request against one"""
    redis = run.house.redis()
    server = run.house.ratekeeper(rules(), redis)
    watch = {"redis": redis}
    found = run.turns({
        f"{count} descriptors": run.closed(server, "--descriptors", count, watch=watch, warm_up=4)
        for count in (1, 3)
    })
    run.ratio("3 descriptors per request vs 1 (server + Redis), 64 streams", 2.0,
              costs(found["3 descriptors"]), costs(found["1 descriptors"]))


def cluster(run):
    """a cluster of three masters against a single Redis"""
    redis, masters = run.house.redis(), run.house.cluster(3)
    single = run.house.ratekeeper(rules(), redis)
    spread = run.house.ratekeeper(rules(), cluster=masters)
    nodes = {f"node {i}": master for i, master in enumerate(masters)}
    variants = {}
    for streams in STREAMS[1:]:
        at = {"streams": streams, "warm_up": 4}
        variants[f"single {streams}"] = run.closed(single, **at, watch={"redis": redis})
        variants[f"cluster {streams}"] = run.closed(spread, **at, watch=nodes)
    found = run.turns(variants)
    for streams in STREAMS[1:]:
        one, three = found[f"single {streams}"], found[f"cluster {streams}"]
        run.ratio(f"a cluster of 3 masters vs a single Redis (server), {streams} streams", None,
                  costs(three, "server"), costs(one, "server"))
        run.ratio(f"the same (all Redis together), {streams} streams", None,
                  costs(three, *nodes), costs(one, "redis"))


def many_rules(run):
    """100,000 rules against 10"""
    found = run.turns({
        f"{count} rules": run.closed(run.house.ratekeeper(rules(extra=count)))
        for count in (10, 100_000)
    })
    run.ratio("100,000 rules vs 10 (server), 64 streams", 1.1,
              costs(found["100000 rules"]), costs(found["10 rules"]))


def latency(run):
    """latency at half of the highest throughput, open loop"""
    redis, naive_redis = run.house.redis(), run.house.redis()
    sides = {
        "redis": (run.house.ratekeeper(rules(), redis), {"redis": redis}),
        "naive": (run.house.baseline("naive", naive_redis.address), {"redis": naive_redis}),
    }
    highest = {
        name: run.closed(server, streams=256, watch=watch, warm_up=4)()["decisions_per_second"]
        for name, (server, watch) in sides.items()
    }

    def at(name, rate):
        server, watch = sides[name]
        return lambda: run.at_rate(server, int(rate), watch=watch)

    found = run.turns({
        **{name: at(name, highest[name] / 2) for name in sides},
        **{f"{name} slowly": at(name, 10_000) for name in sides},
    })
    ours = [result["latency_us"]["p99"] for result in found["redis"]]
    theirs = [result["latency_us"]["p50"] for result in found["naive"]]
    run.rows.append(Row(
        f"Redis mode, p99 at half of the highest throughput ({highest['redis'] / 2:,.0f}/s)",
        2.0, "ms", [us / 1000 for us in ours],
    ))
    run.ratio(f"the same vs the naive server's p50 at half of its own ({highest['naive'] / 2:,.0f}/s)", 2.0,
              ours, theirs)
    busy = [sum(p["cpu_share"] for p in r["processes"]) + r["client"]["cpu_share_per_thread"]
            for r in found["redis"]]
    run.rows.append(Row("processors busy during that run: server, Redis and load", None, "of 2", busy))
    for name, whose in (("redis slowly", "Redis mode"), ("naive slowly", "naive server")):
        p99 = [result["latency_us"]["p99"] / 1000 for result in found[name]]
        run.rows.append(Row(f"{whose}, p99 at 10,000/s", None, "ms", p99))
    run.plots["latency"] = {
        name: {q: median(r["latency_us"][q] for r in found[name]) for q in ("p50", "p90", "p99", "p999")}
        for name in sides
    }


def memory_size(run):
    """memory per bucket"""
    keys, lasting = 1_000_000, rules(1_000_000, "year")
    server = run.house.ratekeeper(lasting)
    # A few buckets, so that threads and queues have what they need.
    fill(server, 64, "--descriptor", "client=first{}")
    before = server.memory()
    fill(server, keys, "--descriptor", "client={}")
    # 4 hits on each of n keys at random leave n * e^-4 of them without any.
    buckets = keys * 0.982
    run.rows.append(Row("memory mode, 1,000,000 live buckets", 160, "bytes each",
                        [(server.memory() - before) / buckets]))


def sweeping(run):
    """what it does to latency that full buckets are swept"""
    keys = 1_000_000
    # Full again after a second: each write finds buckets to forget.
    sweeps = run.house.ratekeeper(rules(1, "second"))
    rests = run.house.ratekeeper(rules(1, "second"))
    rate = 20_000
    found = run.turns({
        "sweeping": lambda: run.at_rate(sweeps, rate, keys=keys),
        "nothing to sweep": lambda: run.at_rate(rests, rate, keys=100),
    })
    p99 = {name: [result["latency_us"]["p99"] for result in runs] for name, runs in found.items()}
    run.ratio(f"p99 while buckets are swept vs not, {rate:,}/s", 1.2, p99["sweeping"], p99["nothing to sweep"])


def many_keys(run):
    """more keys, in memory"""
    sizes = (1_000, 100_000, 10_000_000)
    lasting = rules(1_000_000, "year")
    variants = {}
    for keys in sizes:
        server = run.house.ratekeeper(lasting)
        fill(server, keys)
        variants[f"{keys} keys"] = run.closed(server, keys=keys)
    found = run.turns(variants)
    run.ratio("10,000,000 keys vs 1,000 (server), 64 streams", 1.2,
              costs(found["10000000 keys"]), costs(found["1000 keys"]))
    run.plots["keys"] = {keys: median(costs(found[f"{keys} keys"])) for keys in sizes}


def more_threads(run):
    """two server threads against one, in memory"""
    found = run.turns({
        f"{threads} threads": run.closed(run.house.ratekeeper(rules(), threads=threads))
        for threads in (1, 2)
    })
    run.ratio("2 server threads vs 1 (server), 64 streams", 1.2,
              costs(found["2 threads"]), costs(found["1 threads"]))


def runtime(run):
    """a runtime for each of two threads against one runtime for both, empty handler"""
    apart, shared = run.house.baseline("empty", threads=2), run.house.baseline("shared", threads=2)
    found = run.turns({
        f"{name} {streams}": run.closed(server, streams=streams)
        for streams in STREAMS
        for name, server in (("apart", apart), ("shared", shared))
    })
    for streams in STREAMS:
        run.ratio(f"one runtime for 2 threads vs one for each, empty handler, {streams} streams", None,
                  costs(found[f"shared {streams}"]), costs(found[f"apart {streams}"]))


ALL = [servers, hot, denied, descriptors, cluster, many_rules, latency, memory_size, sweeping, many_keys,
       more_threads, runtime]
