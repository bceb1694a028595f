"""The processes under measurement: started on free ports of the loopback, stopped with the program."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
RATEKEEPER = TARGET / "ratekeeper"

# No bench takes longer than this beyond the time that it was asked to measure, in seconds.
PATIENCE = 120


# The slots of every Redis Cluster.
SLOTS = 16384


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(redis, command):
    """What a Redis answers to one command."""
    host, port = redis.address.split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(f"{command}\r\nQUIT\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if answer.startswith(b"-"):
        raise RuntimeError(f"{command}: {answer.decode()}")
    return answer


def baseline():
    """The newest build of benches/baseline.rs."""
    builds = [path for path in (TARGET / "deps").glob("baseline-*") if not path.suffix]
    return max(builds, key=lambda path: path.stat().st_mtime)


class Server:
    """A process that says its address on a line of its output, and then serves."""

    def __init__(self, command, pattern, environment=None):
        clean = {"PATH": os.environ["PATH"], **(environment or {})}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean,
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            found = re.search(pattern, line)
            if found:
                self.address = found.group(1)
                return
        raise RuntimeError(f"{command[0]} ended before it served:\n{''.join(said)}")

    @property
    def pid(self):
        return self.process.pid

    def memory(self):
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class House:
    """All servers of a run, and a directory for their files."""

    def __init__(self, threads):
        self.threads = threads
        self.stack = contextlib.ExitStack()
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _keep(self, server):
        self.stack.callback(server.stop)
        return server

    def redis(self, *options):
        port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
        redis = self._keep(Server([*command, *options], "Ready to accept (connections)"))
        redis.address = f"127.0.0.1:{port}"
        return redis

    def cluster(self, count):
        """The masters of a Redis Cluster, which share its slots evenly."""
        files = (f"{self.directory}/node-{free_port()}.conf" for _ in range(count))
        buses = [free_port() for _ in range(count)]
        masters = [
            self.redis("--cluster-enabled", "yes", "--cluster-config-file", file, "--cluster-port", bus)
            for file, bus in zip(files, buses)
        ]
        for i, master in enumerate(masters):
            ask(master, f"CLUSTER SET-CONFIG-EPOCH {i + 1}")
            ask(master, f"CLUSTER ADDSLOTSRANGE {i * SLOTS // count} {(i + 1) * SLOTS // count - 1}")
        for master, bus in zip(masters[1:], buses[1:]):
            ask(masters[0], f"CLUSTER MEET {master.address.replace(':', ' ')} {bus}")
        deadline = time.monotonic() + PATIENCE
        while not all(b"cluster_state:ok" in ask(master, "CLUSTER INFO") for master in masters):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not come about")
            time.sleep(0.05)
        return masters

    def ratekeeper(self, rules, redis=None, threads=None, cluster=()):
        file = self.directory / f"{len(list(self.directory.iterdir()))}.yaml"
        file.write_text(rules)
        environment = {
            "GRPC_HOST": "127.0.0.1",
            "GRPC_PORT": "0",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "DEBUG_HOST": "127.0.0.1",
            "DEBUG_PORT": "0",
            "USE_PROMETHEUS": "true",
            "PROMETHEUS_ADDR": "127.0.0.1:0",
            "WORKER_THREADS": str(threads or self.threads),
            "MEMORY_MAX_BUCKETS": "20000000",
        }
        if redis:
            environment["REDIS_URL"] = redis.address
        if cluster:
            environment["REDIS_TYPE"] = "cluster"
            environment["REDIS_URL"] = ",".join(master.address for master in cluster)
        command = [RATEKEEPER, "serve", "--config", file]
        return self._keep(Server(command, r"listening for gRPC.*addr=(\S+)", environment))

    def baseline(self, name, *arguments, threads=None):
        command = [baseline(), name, threads or self.threads, *arguments]
        return self._keep(Server(command, r"^(\S+:\d+)$"))


def bench(server, *options, seconds, warm_up, watch=()):
    """What `ratekeeper bench` found out about a server; `watch` are further processes by name."""
    watched = {"server": server, **dict(watch)}
    command = [RATEKEEPER, "bench", "--address", server.address, "--domain", "bench", "--json"]
    command += ["--duration", f"{seconds}s", "--warm-up", f"{warm_up}s"]
    for name, process in watched.items():
        command += ["--process", f"{name}={process.pid}"]
    return run(command + [str(option) for option in options], seconds + warm_up)


def fill(server, keys, *options):
    """Asks for nearly every key once: a request has many descriptors, and each key comes four times."""
    each = 64
    command = [RATEKEEPER, "bench", "--address", server.address, "--domain", "bench", "--json"]
    command += ["--keys", keys, "--descriptors", each, "--requests", 4 * keys // each, *options]
    run([str(part) for part in command], keys / 50_000)


def run(command, seconds):
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stderr}")
    found = json.loads(done.stdout)
    if found["errors"]:
        raise RuntimeError(f"{' '.join(map(str, command))}: {found['errors']}")
    return found


def cpu(found, *names):
    """CPU microseconds per decision of these processes together."""
    costs = {process["name"]: process["cpu_us_per_decision"] for process in found["processes"]}
    return sum(costs[name] for name in names or costs)


def version(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def redis_version():
    return re.search(r"v=(\S+)", version([shutil.which("redis-server"), "--version"])).group(1)
