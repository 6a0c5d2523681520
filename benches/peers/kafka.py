"""Apache Kafka, one node with KRaft, from Maven Central; driven with its own ProducerPerformance and
ConsumerPerformance. Its tools have none for fan-out: FanOut.java uses its own client."""

import json
import re
import shutil
import socket
import struct
from pathlib import Path

from machine import Failed, Server, free_port, run

HERE = Path(__file__).resolve().parent / "kafka"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
TOOLS = "org.apache.kafka.tools"


class Kafka:
    """A product is a partition: its load tool writes to one topic."""

    name = "Kafka"
    product = "a partition of one topic"

    def install(self, cache):
        self.home = cache / "kafka"
        self.jars = self.home / "lib"
        self.home.mkdir(parents=True, exist_ok=True)
        pom = self.home / "pom.xml"
        wanted = (HERE / "pom.xml").read_text()
        if not (self.jars.exists() and pom.exists() and pom.read_text() == wanted):
            shutil.copy(HERE / "pom.xml", pom)
            run(["mvn", "-q", "-B", PLUGIN, "-DincludeScope=runtime", "-DoutputDirectory=lib"], 900, self.home)

    def version(self):
        jar = next(self.jars.glob("kafka-clients-*.jar"), None)
        if jar is None:
            raise Failed(f"no kafka-clients in {self.jars}")
        return jar.stem.removeprefix("kafka-clients-")

    def settings(self, synced):
        flush = "flush.messages=1: every append is synced" if synced else "defaults: the page cache, no sync"
        return [flush, "acks=all", "linger.ms=5, batch.size as in the workload", "broker heap 1 GiB, G1"]

    def java(self, main, *args, heap="512m", timeout=600):
        return run(["java", f"-Xmx{heap}", "-cp", f"{self.jars}/*", main, *args], timeout)

    def start(self, directory, synced):
        port, controller = free_port(), free_port()
        self.address, self.synced, self.topics = f"127.0.0.1:{port}", synced, 0
        config = directory / "server.properties"
        config.write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://{self.address}\n"
            f"controller.listener.names=CONTROLLER\nlog.dirs={directory}/data\n"
            "offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\n"
        )
        self.java("kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", config)
        command = ["java", "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-cp", f"{self.jars}/*", "kafka.Kafka", config]
        server = Server(command, directory / "log")
        try:
            return server.wait_until(lambda: answers(port))
        except Failed:
            server.stop()
            raise

    def topic(self, partitions):
        self.topics += 1
        name = f"bench-{self.topics}"
        flush = ["--config", "flush.messages=1"] if self.synced else []
        self.java(f"{TOOLS}.TopicCommand", "--bootstrap-server", self.address, "--create", "--topic", name,
                  "--partitions", partitions, *flush)
        return name

    def produce(self, topic, size, records, *properties):
        out = self.java(
            f"{TOOLS}.ProducerPerformance", "--topic", topic, "--num-records", records, "--record-size", size,
            "--throughput", -1, "--producer-props", f"bootstrap.servers={self.address}", "acks=all",
            "max.request.size=8388608", *properties, heap="1g", timeout=900)
        return produced(out)

    def prepare_append(self, products, *_):
        self.prepared = self.topic(products)

    def append(self, _products, size, batch_bytes, records):
        return self.produce(self.prepared, size, records, "linger.ms=5", f"batch.size={batch_bytes}",
                            "buffer.memory=134217728")

    def prepare_depth_one(self, *_):
        self.prepared = self.topic(1)

    def depth_one(self, size, records):
        sample = self.produce(self.prepared, size, records, "linger.ms=0", "batch.size=1",
                              "max.in.flight.requests.per.connection=1")
        # Its latencies count from when a record was handed to the producer, where all others wait before it.
        return {"records": sample["records"], "seconds": sample["seconds"]}

    def fan_out(self, readers, rate, size, records):
        out = run(["java", "-Xmx2g", "-cp", f"{self.jars}/*", HERE / "FanOut.java", self.address, self.topic(1),
                   readers, rate, size, records], 300)
        return json.loads(out.strip().splitlines()[-1])

    def prepare_catch_up(self, size, records):
        self.prepared = self.topic(1)
        self.produce(self.prepared, size, records, "linger.ms=5", "batch.size=65536")

    def catch_up(self, _size, records):
        out = self.java(f"{TOOLS}.ConsumerPerformance", "--bootstrap-server", self.address, "--topic", self.prepared,
                        "--messages", records, heap="1g")
        return consumed(out)


def answers(port):
    """Whether the broker answers a first request, for its versions: it takes connections before that."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(4)) > 0
    except OSError:
        return False


def produced(out):
    """The last line of ProducerPerformance."""
    lines = [line for line in out.splitlines() if " records sent, " in line and " 50th" in line]
    if not lines:
        raise Failed(f"ProducerPerformance said nothing that is understood: {out.strip()[-300:]}")
    records = int(lines[-1].split()[0])
    rate = float(re.search(r"([\d.]+) records/sec", lines[-1])[1])
    p50, p99 = (float(re.search(rf"([\d.]+) ms {at}", lines[-1])[1]) for at in ("50th", "99th"))
    return {"records": records, "seconds": records / rate, "p50_us": p50 * 1e3, "p99_us": p99 * 1e3}


def consumed(out):
    """The last line of ConsumerPerformance. The time to join a group is not counted."""
    lines = [line.split(", ") for line in out.splitlines() if line.count(", ") == 9 and line[:1].isdigit()]
    if not lines:
        raise Failed(f"ConsumerPerformance said nothing that is understood: {out.strip()[-300:]}")
    return {"records": int(lines[-1][4]), "seconds": float(lines[-1][7]) / 1e3}
