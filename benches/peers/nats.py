"""NATS JetStream, from the Go module proxy; driven with `nats bench` of its own command line, and where that has no such
load (many streams, fan-out) with its Go client in clients/."""

import json
import os
import re
import shutil
from pathlib import Path

from machine import Failed, Server, free_port, run

HERE = Path(__file__).resolve().parent / "clients"
SERVER = "github.com/nats-io/nats-server/v2@v2.15.3"
TOOL = "github.com/nats-io/natscli/nats@v0.5.1"


def go_install(cache, module):
    """Installs a program of a Go module into the cache."""
    binaries = cache / "bin"
    run(["go", "install", module], 1200, env={**os.environ, "GOBIN": str(binaries), "GOFLAGS": "-buildvcs=false"})


def build_clients(cache):
    """Builds the Go clients of this folder."""
    binary, home = cache / "bin" / "clients", cache / "clients"
    sources = ("go.mod", "go.sum", "main.go", "nats.go", "redis.go")
    texts = [(HERE / name).read_text() for name in sources]
    if binary.exists() and all((home / name).exists() and (home / name).read_text() == text
                               for name, text in zip(sources, texts)):
        return binary
    home.mkdir(parents=True, exist_ok=True)
    run(["go", "build", "-o", binary, "."], 1200, HERE, env={**os.environ, "GOFLAGS": "-buildvcs=false"})
    for name in sources:
        shutil.copy(HERE / name, home / name)
    return binary


class Nats:
    """A product is a stream of its own, in files, with one replica."""

    name = "NATS JetStream"
    product = "a stream"

    def install(self, cache):
        self.server, self.tool = cache / "bin/nats-server", cache / "bin/nats"
        for binary, module in ((self.server, SERVER), (self.tool, TOOL)):
            version = module.rsplit("@v", 1)[1]
            if not (binary.exists() and version in run([binary, "--version"])):
                go_install(cache, module)
        self.clients = build_clients(cache)

    def version(self):
        return run([self.server, "--version"]).strip().rsplit("v", 1)[-1]

    def settings(self, synced):
        sync = "sync_interval: always" if synced else "defaults: a sync every two minutes"
        # Measured: with a sync for each message that is published by itself, single messages time out; without, fast
        # batches are several times faster than atomic ones.
        how = ("appends as atomic batches of at most 1,000 messages, 16 at once" if synced else
               "appends as fast batches (to many streams: asynchronously) of at most 1,000 messages, 16 at once")
        return [sync, "file storage, one replica", how]

    def start(self, directory, synced):
        port = free_port()
        self.url, self.synced, self.streams = f"127.0.0.1:{port}", synced, 0
        sync = ", sync_interval: always" if synced else ""
        config = directory / "nats.conf"
        config.write_text(f'listen: "{self.url}"\njetstream {{ store_dir: "{directory}/data"{sync}, max_file_store: 4TB }}\n')
        server = Server([self.server, "-c", config], directory / "log")
        try:
            return server.wait_until(lambda: "Server is ready" in server.log.read_text())
        except Failed:
            server.stop()
            raise

    def stream(self):
        self.streams += 1
        return f"bench{self.streams}"

    def bench(self, kind, records, *args):
        command = [self.tool, "-s", self.url, "--timeout", "60s", "bench", "js", *kind.split(), "--no-progress", "--msgs", records, *args]
        return benched(run(command, 900), records)

    def publish(self, kind, stream, size, records, *args):
        return self.bench(f"pub {kind}", records, "--size", size, "--create", "--storage", "file",
                          "--maxbytes", "32GB", "--stream", stream, *args, f"{stream}.x")

    def prepare_append(self, products, *_):
        self.prepared = self.stream()
        if products > 1:
            run([self.clients, "nats-create", self.url, self.prepared, products])

    def append(self, products, size, batch_bytes, records):
        batch = min(1000, max(1, batch_bytes // size))
        if products == 1:
            return self.publish("atomic" if self.synced else "fast", self.prepared, size, records, "--batch", batch, "--clients", 16)
        return json.loads(run([self.clients, "nats-append", self.url, self.prepared, products, size, batch, 16, records,
                               int(self.synced)], 900))

    def depth_one(self, size, records):
        return self.publish("sync", self.stream(), size, records)

    def fan_out(self, readers, rate, size, records):
        return json.loads(run([self.clients, "nats-fanout", self.url, self.stream(), readers, rate, size, records], 300))

    def prepare_catch_up(self, size, records):
        self.prepared = self.stream()
        self.publish("atomic", self.prepared, size, records, "--batch", min(1000, 65536 // size), "--clients", 16)

    def catch_up(self, size, records):
        return self.bench("ordered", records, "--size", size, "--stream", self.prepared)


def benched(out, records):
    """What `nats bench` says at its end: for several clients their sum."""
    lines = [line for line in out.splitlines() if " stats: " in line and "msgs/sec" in line]
    if not lines:
        raise Failed(f"nats bench said nothing that is understood: {out.strip()[-300:]}")
    rate = float(re.search(r"([\d,.]+) msgs/sec", lines[-1])[1].replace(",", ""))
    sample = {"records": records, "seconds": records / rate}
    # With several clients their latencies stand in a line of their own, without colons.
    after = out[out.index(lines[-1]):]
    for name, at in (("p50_us", "P50"), ("p99_us", "P99")):
        found = re.search(rf"{at}:? ([\d,.]+)us", after)
        if found:
            sample[name] = float(found[1].replace(",", ""))
    return sample
