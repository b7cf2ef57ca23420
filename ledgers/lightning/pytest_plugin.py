"""pytest fixtures for whoever installs v2gbench: real lnd and btcd nodes, ready to pay.

    def test_the_van_pays(lightning_network):
        van = lightning_network.address("van")      # host, gRPC port, TLS certificate, macaroon

`lightning_network` is a hub with two spokes, `van` and `evse`, started once per pytest process (so each worker of
pytest-xdist has its own) and healed between tests: stopped nodes are started, paused ones go on, fees are calm, peers
are connected. Balances are not put back. For another network override `lightning_plan`, in conftest.py for all tests
or in a module for its own. Tests with equal plans share a network; of more than two, the one used longest ago ends:

    @pytest.fixture(scope="session")
    def lightning_plan():
        return hub_and_spokes("yard", spokes=["van", "bus", "evse"])

When a test that used the nodes fails, the last lines of their logs stand in its report, and the logs are kept. The
first use ever builds the programs, about five minutes on two cores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ledgers.lightning.nodes.network import LightningNetwork
    from ledgers.lightning.nodes.plan import NetworkPlan

_FIXTURE = "lightning_network"
_HEAL_S = 30.0  # so long a network that a test has left may take until it is ready
_AT_ONCE = 2  # networks that run in one process; each takes some 400 MB


@pytest.fixture(scope="session")
def lightning_plan() -> NetworkPlan:
    """What the network of this session consists of; override it for another one."""
    from ledgers.lightning.nodes.plan import hub_and_spokes  # noqa: PLC0415  # pytest loads this file in every run

    return hub_and_spokes("pytest", spokes=["van", "evse"])


class _Networks:
    """The networks of this process by plan, the one used last at the end."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._session = request.session
        self._progress = _progress(request.config)
        self._open: dict[NetworkPlan, tuple[LightningNetwork, int]] = {}  # with the failures when it was opened

    def get(self, plan: NetworkPlan) -> LightningNetwork:
        """A network of this plan in which everything is up; one that cannot be healed makes room for another."""
        from ledgers.lightning.errors import LightningError  # noqa: PLC0415
        from ledgers.lightning.nodes.network import LightningNetwork  # noqa: PLC0415

        found = self._open.pop(plan, None)
        if found is not None:
            self._open[plan] = found
            try:
                found[0].heal(limit_s=_HEAL_S)
            except (LightningError, OSError):  # a folder may be gone, too
                self._close(plan, keep=True)
            else:
                return found[0]
        if len(self._open) >= _AT_ONCE:
            self._close(next(iter(self._open)))
        network = LightningNetwork(plan, progress=self._progress)
        network.open()
        self._open[plan] = network, self._session.testsfailed
        return network

    def close(self) -> None:
        for plan in list(self._open):
            self._close(plan)

    def _close(self, plan: NetworkPlan, *, keep: bool = False) -> None:
        network, failed_before = self._open.pop(plan)
        network.close(keep=keep or self._session.testsfailed > failed_before)


@pytest.fixture(scope="session")
def _lightning_networks(request: pytest.FixtureRequest) -> Iterator[_Networks]:
    networks = _Networks(request)
    try:
        yield networks
    finally:
        networks.close()


@pytest.fixture
def lightning_network(lightning_plan: NetworkPlan, _lightning_networks: _Networks) -> LightningNetwork:
    """A network of real nodes in which everything is up, see `ledgers.lightning.nodes.network.LightningNetwork`."""
    return _lightning_networks.get(lightning_plan)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs before the first test begins, where no time limit of a test counts."""
    wanted = any(_FIXTURE in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    from ledgers.lightning.errors import BuildError  # noqa: PLC0415
    from ledgers.lightning.nodes.build import build_programs  # noqa: PLC0415

    with contextlib.suppress(BuildError):  # the tests that need the programs will say it
        build_programs(progress=_progress(session.config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of the nodes' logs to the report of a test that failed with them."""
    report = yield
    network = getattr(item, "funcargs", {}).get(_FIXTURE)
    if report.failed and network is not None:
        for name, lines in network.log_tails().items():
            report.sections.append((f"log of {name}", lines))
        report.sections.append(("lightning", f"the logs of the nodes are in {network.folder}"))
    return report


def _progress(config: pytest.Config) -> Callable[[int, int, str], None]:
    """A line on the terminal that is written over and over; nothing where there is no terminal."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    shown = ""

    def progress(done: int, total: int, what: str) -> None:
        nonlocal shown
        line = f"lightning nodes: {100 * done // total} % built" if total else f"lightning nodes: {what}"
        if reporter is None or capture is None or line == shown or not reporter.isatty:
            return
        shown = line
        with capture.global_and_fixture_disabled():
            reporter.rewrite(line[:118], erase=True)

    return progress
