"""Logs that are looked for in the registries and not measured; the reason goes into the result."""

from machine import Failed, run


def iggy(_cache):
    """Its client is a crate of the registry; its server is not."""
    run(["cargo", "info", "--color", "never", "iggy-server"], 120)
    return "the registry has the server now: it could become a peer"


def s2_lite(_cache):
    """A part of a crate, which cargo has to build: that takes longer than all other peers together."""
    said = run(["cargo", "info", "--color", "never", "s2-cli"], 120)
    version = next(line.split()[-1] for line in said.splitlines() if line.startswith("version:"))
    return (f"{version} is there (`cargo install s2-cli`) and no driver for it is written; with --local-root it syncs what it "
            "acknowledges, so its place would be the first class")


def rabbitmq(_cache):
    """A package of Debian that wants a user and a place of its own in the system."""
    said = run(["apt-cache", "policy", "rabbitmq-server"], 60)
    version = next((line.split()[-1] for line in said.splitlines() if "Candidate:" in line), "(none)")
    if version == "(none)":
        raise Failed("no package rabbitmq-server; run apt-get update")
    return (f"{version} is there and no driver for it is written: the package installs into the system and starts a service, "
            "where all other peers stay in one folder")


OTHERS = {"Apache Iggy": iggy, "s2-lite": s2_lite, "RabbitMQ Streams": rabbitmq}
