"""Redis Streams, from Debian; driven with redis-benchmark, and for fan-out with its Go client in clients/."""

import json
import os
import re
from pathlib import Path

import nats
from machine import Failed, Server, free_port, run


class Redis:
    """A product is a key that holds a stream."""

    name = "Redis Streams"
    product = "a key"

    def install(self, cache):
        self.home = cache / "redis"
        self.bin = self.home / "usr/bin"
        self.home.mkdir(parents=True, exist_ok=True)
        if not (self.bin / "redis-server").exists():
            # Into a folder of its own: nothing of the system changes.
            run(["apt-get", "download", "redis-server", "redis-tools", "liblzf1", "libjemalloc2", "libatomic1"], cwd=self.home)
            for package in sorted(self.home.glob("*.deb")):
                run(["dpkg-deb", "-x", package, self.home])
        self.clients = nats.build_clients(cache)

    def environment(self):
        paths = {str(path.parent) for path in self.home.rglob("*.so*")}
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(paths))}

    def version(self):
        return re.search(r"v=([\d.]+)", run([self.bin / "redis-server", "--version"], env=self.environment()))[1]

    def settings(self, synced):
        sync = "always" if synced else "everysec"
        return [f"appendonly yes, appendfsync {sync}", "no-appendfsync-on-rewrite no, no rewrites, no snapshots",
                "16 connections, pipelines of the size of the batch, at most 1,000"]

    def start(self, directory, synced):
        self.port, self.keys = free_port(), 0
        data = directory / "data"
        data.mkdir(exist_ok=True)
        command = [self.bin / "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", data,
                   "--appendonly", "yes", "--appendfsync", "always" if synced else "everysec",
                   "--no-appendfsync-on-rewrite", "no", "--auto-aof-rewrite-percentage", "0", "--save", ""]
        server = Server(command, directory / "log", self.environment())
        try:
            return server.wait_until(lambda: "Ready to accept connections" in server.log.read_text())
        except Failed:
            server.stop()
            raise

    def key(self):
        self.keys += 1
        return f"bench{self.keys}"

    def bench(self, connections, pipeline, records, *command, payload=None, more=()):
        args = [self.bin / "redis-benchmark", "-p", self.port, "-c", connections, "-P", pipeline, "-n", records,
                "--csv", *more, *(["-x"] if payload else []), *command]
        return benched(run(args, 900, stdin=payload, env=self.environment()), records)

    def append(self, products, size, batch_bytes, records):
        pipeline = min(1000, max(1, batch_bytes // size))
        # It sends whole pipelines.
        records = -(-records // (16 * pipeline)) * 16 * pipeline
        return self.bench(16, pipeline, records, "XADD", f"{self.key()}:__rand_int__", "*", "f",
                          payload=b"x" * size, more=("-r", products))

    def depth_one(self, size, records):
        return self.bench(1, 1, records, "XADD", self.key(), "*", "f", payload=b"x" * size)

    def fan_out(self, readers, rate, size, records):
        return json.loads(run([self.clients, "redis-fanout", f"127.0.0.1:{self.port}", self.key(), readers, rate, size, records], 300))

    def prepare_catch_up(self, size, records):
        self.prepared = self.key()
        pipeline = min(1000, max(1, 65536 // size))
        self.bench(16, pipeline, records, "XADD", self.prepared, "*", "f", payload=b"x" * size)

    def catch_up(self, _size, _records):
        return json.loads(run([self.clients, "redis-read", f"127.0.0.1:{self.port}", self.prepared, 1000], 900))


def benched(out, records):
    """The last line of `redis-benchmark --csv`; its times are milliseconds."""
    lines = [line for line in out.splitlines() if line.startswith('"') and not line.startswith('"test"')]
    if not lines:
        raise Failed(f"redis-benchmark said nothing that is understood: {out.strip()[-300:]}")
    # The name of the test is the command and may hold commas and quotes: the figures are the last seven fields.
    fields = [field.strip('"') for field in lines[-1].split(",")[-7:]]
    rate, _, _, p50, _, p99, _ = (float(field) for field in fields)
    return {"records": records, "seconds": records / rate, "p50_us": p50 * 1e3, "p99_us": p99 * 1e3}
