"""Logs that are tried and cannot be measured beside the others from registries alone; the reason goes into the result."""

import shutil

from machine import Failed, run

WITHOUT_SYNC = "it does not sync its streams to disk before it confirms, so it has no place in the first class"


def iggy(_cache):
    """Its server is no crate of the registry: only its client is."""
    run(["cargo", "info", "--color", "never", "iggy-server"], 120)
    return "the registry has the server now: add it as a peer"


def s2_lite(_cache):
    """A crate; on a local directory its object store writes files without syncing them."""
    said = run(["cargo", "info", "--color", "never", "s2-cli"], 120)
    version = next(line.split()[-1] for line in said.splitlines() if line.startswith("version:"))
    return (f"{version} installs with `cargo install s2-cli` and was not measured: it is made for object stores, and on a "
            "local directory it does not sync what it acknowledges")


def rabbitmq(_cache):
    """A package of Debian, with its own user and a fixed place in the system."""
    said = run(["apt-cache", "policy", "rabbitmq-server"], 60)
    version = next((line.split()[-1] for line in said.splitlines() if "Candidate:" in line), "(none)")
    if version == "(none)":
        raise Failed("no package rabbitmq-server; run apt-get update")
    if shutil.which("rabbitmq-server"):
        version += " (installed)"
    return f"{version} is there and was not measured: {WITHOUT_SYNC}"


OTHERS = {"Apache Iggy": iggy, "s2-lite": s2_lite, "RabbitMQ Streams": rabbitmq}
