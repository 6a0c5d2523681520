"""Meshlog, driven with `meshlog bench`."""

import json
import os
from pathlib import Path

from machine import Failed, Server, run

ROOT = Path(__file__).resolve().parents[2]


class Meshlog:
    """The binary of this repository."""

    name = "Meshlog"
    product = "a product"

    def __init__(self, binary=None):
        self.binary = Path(binary) if binary else ROOT / "target/release/meshlog"

    def install(self, _cache):
        if not self.binary.exists():
            raise Failed(f"{self.binary} is not there: cargo build --release -p meshlog-cli")

    def version(self):
        return run([self.binary, "--version"]).split()[-1]

    def settings(self, synced):
        return ["defaults: an append is acknowledged after its sync"] if synced else ["bench --ack written"]

    def start(self, directory, synced):
        self.ack = "synced" if synced else "written"
        self.env = {**os.environ, "HOME": str(directory)}
        for name in ("MESHLOG_SERVER", "MESHLOG_CONTEXT", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            self.env.pop(name, None)
        command = [self.binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", directory / "data"]
        server = Server(command, directory / "log", {**self.env, "MESHLOG_LOG": "error"})
        try:
            server.wait_until(lambda: "listening on " in server.log.read_text() and server.log.read_text().endswith("\n"))
        except Failed:
            server.stop()
            raise
        self.address = server.log.read_text().split("listening on ")[1].split()[0]
        return server

    def limits(self, place):
        """D, F, G and g of this machine, now."""
        command = [self.binary, "bench", "append", "--records", 1000, "--own", place, "-o", "json"]
        return json.loads(run(command))["limits"]

    def bench(self, *args):
        command = [self.binary, "bench", *args, "--ack", self.ack, "--server", self.address, "-o", "json"]
        return json.loads(run(command, env=self.env))

    def append(self, products, size, batch_bytes, records):
        batch = max(1, batch_bytes // size)
        found = self.bench("append", "--records", records, "--size", size, "--batch", batch,
                           "--products", products, "--in-flight", 16)
        return flow(found["append"], found["costs"])

    def depth_one(self, size, records):
        found = self.bench("append", "--records", records, "--size", size, "--batch", 1, "--in-flight", 1)
        return flow(found["append"], found["costs"])

    def fan_out(self, readers, rate, size, records):
        found = self.bench("fanout", "--readers", readers, "--rate", rate, "--size", size, "--records", records)
        return flow(found["delivery"], found["costs"])

    def catch_up(self, size, records):
        found = self.bench("read", "--records", records, "--size", size, "--batch", max(1, 65536 // size))
        return flow(found["read"], found["costs"])


def flow(part, costs):
    """The figures of one part of what `meshlog bench` says, and what it cost."""
    sample = {"records": part["records"], "seconds": part["seconds"]}
    for side in ("server", "client"):
        if costs[f"{side}_cpu"]:
            sample[f"{side}_cpu_seconds"] = costs[f"{side}_cpu"]["seconds"]
    latency = part.get("latency_us")
    if latency:
        sample |= {"p50_us": latency["p50"], "p99_us": latency["p99"]}
    return sample
