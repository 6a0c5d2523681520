"""A real Meshlog broker for every test: see `Broker` and the fixtures in `plugin`."""

from pytest_meshlog.broker import Broker, BrokerFailed

__all__ = ["Broker", "BrokerFailed"]
