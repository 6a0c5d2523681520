#!/usr/bin/env python3
"""Meshlog beside other logs, each at the same durability and driven with its own tools.

    python3 benches/peers/run.py --quick                 does everything run? five minutes, no figures
    python3 benches/peers/run.py --meshlog BINARY        on a quiet machine

Everything comes from package registries: Kafka with Maven, NATS with Go, Redis with apt. It needs java, mvn, go, apt-get,
dpkg-deb and strace. Results: peers.json, peers.md and peers.svg in --out.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import report
from kafka import Kafka
from machine import Failed, SyncCalls, children_cpu, describe, device_flushes, others_busy
from meshlog import ROOT, Meshlog
from nats import Nats
from others import OTHERS
from redis import Redis
from workloads import figure, workloads


def parse():
    target = ROOT / "target/peers"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small volumes, one round: does everything run?")
    parser.add_argument("--meshlog", metavar="BINARY", default=os.environ.get("MESHLOG"),
                        help="[env: MESHLOG] [default: target/release/meshlog]")
    parser.add_argument("--peers", default="meshlog,kafka,nats,redis", help="which [default: %(default)s]")
    parser.add_argument("--classes", default="synced,unsynced", help="which [default: %(default)s]")
    parser.add_argument("--only", metavar="TEXT", default="", help="only workloads with this in their name")
    parser.add_argument("--rounds", type=int, help="peers take turns so often [default: 3; quick: 1]")
    parser.add_argument("--out", type=Path, default=target / "results", help="[default: %(default)s]")
    parser.add_argument("--cache", type=Path, default=target / "cache", help="what is installed [default: %(default)s]")
    parser.add_argument("--scratch", type=Path, default=target, help="a place on the disk to measure [default: %(default)s]")
    return parser.parse_args()


def main():
    args = parse()
    for folder in (args.out, args.cache, args.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    args.cache = args.cache.resolve()
    known = {"meshlog": Meshlog(args.meshlog), "kafka": Kafka(), "nats": Nats(), "redis": Redis()}
    names = [name for name in args.peers.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no peer is called {', '.join(unknown)}: there are {', '.join(known)}")
    todo = [workload for workload in workloads(args.quick) if args.only in workload.name]
    result = {
        "date": datetime.date.today().isoformat(), "quick": args.quick, "machine": describe(args.scratch),
        "cores_busy_before": round(others_busy(2.0), 2),
        "workloads": [{"name": it.name, "title": it.title, "unit": it.unit} for it in todo],
        "peers": {}, "others": {}, "limits": [],
    }
    peers = {}
    for name in names:
        peer = known[name]
        say(f"{peer.name}: installing")
        entry = result["peers"][peer.name] = {"product": peer.product, "classes": {}}
        try:
            peer.install(args.cache)
            entry["version"] = peer.version()
            peers[name] = peer
        except Failed as why:
            entry["failed"] = str(why)
            say(f"{peer.name}: {why}")
    for name, attempt in OTHERS.items():
        try:
            result["others"][name] = attempt(args.cache)
        except Failed as why:
            result["others"][name] = str(why)
    rounds = args.rounds or (1 if args.quick else 3)
    for number in range(rounds):
        for synced in [kind == "synced" for kind in args.classes.split(",")]:
            if "meshlog" in peers and synced:
                result["limits"].append(attempted(lambda: peers["meshlog"].limits(args.scratch)))
            for peer in peers.values():
                say(f"{peer.name}: round {number + 1} of {rounds}, {'synced' if synced else 'not synced'}")
                known_class = result["peers"][peer.name]["classes"].setdefault(
                    "synced" if synced else "unsynced", {"settings": peer.settings(synced), "rounds": []})
                known_class["rounds"].append(one_round(peer, synced, todo, args))
                write(result, args.out)
    summarise(result)
    write(result, args.out)
    (args.out / "peers.md").write_text(report.table(result))
    (args.out / "peers.svg").write_text(report.plot(result))
    print(report.table(result))
    failed = report.failures(result)
    for line in failed:
        say(line)
    sys.exit(1 if failed else 0)


def one_round(peer, synced, todo, args):
    """A broker on an empty directory, all workloads, and a start on what they left."""
    found = {"samples": {}}
    directory = Path(tempfile.mkdtemp(prefix="peer-", dir=args.scratch)).resolve()
    server = None
    try:
        server = peer.start(directory, synced)
        found["start_seconds"] = server.ready_seconds
        time.sleep(1 if args.quick else 5)
        found["idle_memory"] = server.resident()
        for workload in todo:
            if synced or not workload.synced_only:
                found["samples"][workload.name] = attempted(lambda: measured(peer, server, workload, directory))
        found["loaded_memory"] = server.resident()
        if synced and not args.only:
            found["sync_calls"] = attempted(lambda: sync_calls(peer, server, directory, 100 if args.quick else 500))
        server.stop()
        server = peer.start(directory, synced)
        found["restart_seconds"] = server.ready_seconds
    except (Failed, OSError) as why:
        found["failed"] = str(why)
    finally:
        if server:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return found


def measured(peer, server, workload, directory):
    """A sample, and what both sides and the device did meanwhile."""
    # Making topics and filling them is no part of the figure, nor of what it costs.
    prepare = getattr(peer, f"prepare_{workload.kind}", lambda *_: None)
    prepare(*workload.arguments)
    client, broker, flushes = children_cpu(), server.cpu(), device_flushes(directory)
    sample = getattr(peer, workload.kind)(*workload.arguments)
    sample["figure"] = figure(workload, sample)
    gigabytes = sample["records"] * workload.size / 1e9
    # A tool that does more than the workload in one run says itself what the workload took.
    server_cpu = sample.get("server_cpu_seconds", server.cpu() - broker)
    client_cpu = sample.get("client_cpu_seconds", children_cpu() - client)
    sample["server_cpu_per_gb"], sample["client_cpu_per_gb"] = server_cpu / gigabytes, client_cpu / gigabytes
    if flushes is not None and workload.kind == "depth_one":
        sample["flushes_per_1000"] = (device_flushes(directory) - flushes) * 1e3 / sample["records"]
    return sample


def sync_calls(peer, server, directory, records):
    """System calls that sync, per 1,000 records that are acknowledged one at a time."""
    prepare = getattr(peer, "prepare_depth_one", lambda *_: None)
    prepare(1024, records)
    counter = SyncCalls(server, directory)
    try:
        sample = peer.depth_one(1024, records)
    finally:
        calls = counter.stop()
    return {name: count * 1e3 / sample["records"] for name, count in calls.items()}


def attempted(step):
    """What a step gives, or why it failed."""
    try:
        return step()
    except Failed as why:
        return {"failed": str(why)}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as why:
        return {"failed": f"its tool's answer is not understood: {why!r}"}


def summarise(result):
    """Medians over the rounds, with the least and the most."""
    for entry in result["peers"].values():
        for found in entry["classes"].values():
            rounds = found["rounds"]

            def middle(values):
                values = [value for value in values if value is not None]
                return [statistics.median(values), min(values), max(values)] if values else None

            summary = {key: middle([it.get(key) for it in rounds]) for key in
                       ("start_seconds", "restart_seconds", "idle_memory", "loaded_memory")}
            for workload in result["workloads"]:
                samples = [it["samples"].get(workload["name"], {}) for it in rounds]
                summary[workload["name"]] = {key: middle([sample.get(key) for sample in samples]) for key in
                                             ("figure", "p50_us", "p99_us", "server_cpu_per_gb", "client_cpu_per_gb",
                                              "flushes_per_1000")}
            calls = [it.get("sync_calls") or {} for it in rounds]
            sums = [sum(it.values()) for it in calls if it and "failed" not in it]
            summary["sync_calls_per_1000"] = middle(sums)
            found["summary"] = summary


def write(result, out):
    (out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
