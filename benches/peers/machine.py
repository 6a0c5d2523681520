"""Processes, what they use, and what the device did meanwhile. Linux only."""

import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A step of a peer that did not work, with what it said."""


def run(command, timeout=600, cwd=None, stdin=None, env=None):
    """Runs a command to its end and returns what it wrote to standard output."""
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=cwd, input=stdin, env=env, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
        )
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(str(command[0])).name} did not end within {timeout} s") from None
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode != 0:
        said = (err.strip() or out.strip()).splitlines()[-6:]
        raise Failed(f"{Path(str(command[0])).name} ended with {done.returncode}: " + " | ".join(said))
    return out


def children_cpu():
    """CPU seconds of the load tools that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def others_busy(seconds):
    """Cores that are busy while this program waits."""
    def busy():
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        return sum(int(fields[at]) for at in (0, 1, 2, 7)) / TICKS
    before = busy()
    time.sleep(seconds)
    return (busy() - before) / seconds


def free_port():
    """A port of loopback that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A started broker. It is stopped by its own id."""

    def __init__(self, command, log, env=None):
        self.began = time.monotonic()
        self.log = Path(log)
        self.output = open(log, "wb")
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT, env=env, start_new_session=True,
        )
        self.ready_seconds = None

    def said(self, count=6):
        """The last lines of its log."""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-count:])

    def wait_until(self, is_ready, seconds=90):
        """Waits until it serves; notes how long that took."""
        while not is_ready():
            if self.process.poll() is not None:
                raise Failed(f"the broker ended with {self.process.returncode}: {self.said()}")
            if time.monotonic() - self.began > seconds:
                raise Failed(f"the broker did not serve within {seconds} s: {self.said()}")
            time.sleep(0.005)
        self.ready_seconds = time.monotonic() - self.began
        return self

    @property
    def pid(self):
        return self.process.pid

    def cpu(self):
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self):
        """Resident memory in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self):
        """Asks it to end, and ends it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()


def device_flushes(directory):
    """Flush requests that the device of a directory has completed; None where the kernel does not count them."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)} {os.minor(device)} "
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if " ".join(fields[:2]) + " " == wanted:
            return int(fields[18]) if len(fields) > 18 else None
    return None


class SyncCalls:
    """Counts the calls that sync a file, of a running broker, with strace."""

    def __init__(self, server, directory):
        self.path = Path(directory) / "strace"
        self.strace = subprocess.Popen(
            ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync,msync,sync_file_range",
             "-o", str(self.path), "-p", str(server.pid)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        # It says when it has attached.
        self.strace.stderr.readline()

    def stop(self):
        """How often each was called."""
        self.strace.send_signal(signal.SIGINT)
        self.strace.wait(20)
        return sync_calls(self.path.read_text(errors="replace"))


def sync_calls(summary):
    """The counts in the table that `strace -c` writes."""
    counts = {}
    for line in summary.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] not in ("total", "syscall"):
            counts[fields[-1]] = int(fields[3])
    return counts


def describe(directory):
    """The machine in general terms: nothing that names it."""
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    kernel = ".".join(os.uname().release.split(".")[:2])
    fs = subprocess.run(["stat", "-f", "-c", "%T", str(directory)], capture_output=True, text=True, check=False)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "kernel": f"Linux {kernel}",
        "file_system": fs.stdout.strip(),
    }
