"""A broker in a process of its own."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import grpc

_ANNOUNCEMENT = "listening on "


class BrokerFailed(Exception):
    """The broker did not start; the text holds what it said."""


class Broker:
    """A running `meshlog serve` on a free loopback port.

    With a data directory it keeps its records there, synced to disk, as in production; without one it keeps them in
    memory. Only the process started here is ever stopped. Works as a context manager too.
    """

    def __init__(self, binary: str | Path, folder: Path, data_dir: Path | None = None, timeout: float = 30.0) -> None:
        """Starts the broker and waits until it listens.

        `folder` must exist and takes the broker's log, `meshlog.log`. Raises `BrokerFailed` if the broker ends, or does
        not listen within `timeout` seconds.
        """
        self.log = folder / "meshlog.log"
        """What the broker wrote to its standard error."""
        self._channels: list[grpc.Channel] = []
        storage = ["--in-memory"] if data_dir is None else ["--data-dir", str(data_dir)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(binary), "serve", "--listen", "127.0.0.1:0", *storage],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C in the terminal is for pytest, which then stops its brokers itself.
                start_new_session=True,
            )
        try:
            self.address = self._announced(timeout)
            """Host and port, as `127.0.0.1:40123`."""
        except BaseException:
            self.stop()
            raise

    def _announced(self, timeout: float) -> str:
        late = threading.Timer(timeout, self._process.kill)
        late.start()
        try:
            line = self._process.stdout.readline().strip()
        finally:
            late.cancel()
        if not line.startswith(_ANNOUNCEMENT):
            self._process.kill()
            said = self.log.read_text(errors="replace").strip()
            why = f"it said {line!r}" if line else f"it ended, or said nothing for {timeout:g} s"
            raise BrokerFailed(f"the broker did not start: {why}\n{said}")
        return line.removeprefix(_ANNOUNCEMENT)

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """False once it was stopped, or has ended by itself."""
        return self._process.poll() is None

    def channel(self, **options: int | str) -> grpc.Channel:
        """A new channel with a connection of its own, closed with the broker.

        Options are channel arguments of gRPC: `channel(**{"grpc.max_receive_message_length": 1024})`.
        """
        arguments = {"grpc.use_local_subchannel_pool": 1, **options}
        channel = grpc.insecure_channel(self.address, list(arguments.items()))
        self._channels.append(channel)
        return channel

    def stop(self, timeout: float = 20.0) -> None:
        """Closes its channels and stops the process, gently at first. Does nothing the second time."""
        while self._channels:
            self._channels.pop().close()
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
