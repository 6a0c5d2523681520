"""The fixtures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_meshlog.broker import Broker, BrokerFailed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("meshlog").addoption(
        "--meshlog-binary",
        metavar="PATH",
        help="the meshlog binary to start [default: $MESHLOG_BINARY, or meshlog in PATH]",
    )


def _binary(config: pytest.Config) -> Path:
    """The binary that was asked for, or a usage error that says how to ask for one."""
    for where, wish in (
        ("--meshlog-binary", config.getoption("--meshlog-binary")),
        ("MESHLOG_BINARY", os.environ.get("MESHLOG_BINARY")),
    ):
        if wish:
            found = shutil.which(wish)
            if found is None:
                raise pytest.UsageError(f"{where} is {wish}, which is no program that can be run")
            return Path(found)
    found = shutil.which("meshlog")
    if found is None:
        raise pytest.UsageError(
            "there is no `meshlog` in PATH; install it, or name one with --meshlog-binary PATH or MESHLOG_BINARY"
        )
    return Path(found)


def _start(request: pytest.FixtureRequest, folder: Path, data_dir: Path | None = None) -> Broker:
    try:
        return Broker(_binary(request.config), folder, data_dir)
    except (pytest.UsageError, BrokerFailed) as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def meshlog_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for the whole run, on disk; with pytest-xdist one per worker. Tests share what is in it."""
    folder = tmp_path_factory.mktemp("meshlog")
    with _start(request, folder, folder / "data") as broker:
        yield broker


@pytest.fixture
def meshlog(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A fresh, empty broker for this test alone, in memory."""
    with _start(request, tmp_path_factory.mktemp("meshlog")) as broker:
        yield broker
