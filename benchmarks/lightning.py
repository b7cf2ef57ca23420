"""Real Lightning nodes: how soon a network is ready, how fast it pays and settles, and what twenty nodes weigh.

`network_ready_s` is the worst of three starts of a hub with three spokes, warm: programs built, network of this plan in
the cache; from the constructor to every node synced, every channel active and in every graph. `network_first_s` is the
same network from nothing (450 blocks, wallets, funding, channels), kept in the cache and started from there.

Payments go from the van over the hub to the evse, each for an invoice that was made before; the worst of three runs
counts. `pay_p50_ms`: one after the other, from `LndClient.pay` to its return, with the decoding and checking of the
invoice; the median. `payments_per_s_20`: twenty in flight, `AsyncLndClient`. `hold_settle_ms`: the preimage is given to
the payee's node and it says that the money is its own; the median. `hold_paid_ms`: until the payer's node says so, too.
`calls_ratio_to_stock`: GetInfo a second on a kept channel, beside the client of `lnd-grpc-client`, which opens a
channel for each call, on the same node in the same run.

`rss_20_nodes_mb` adds the resident memory of one btcd and twenty lnd, a hub and nineteen spokes with active channels;
pages of the program that the nodes share count once for each. `pss_20_nodes_mb` counts them once in all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure

if TYPE_CHECKING:
    from ledgers.lightning.client import Agreed, LndClient, NodeAccess
    from ledgers.lightning.nodes.build import Programs
    from ledgers.lightning.nodes.network import LightningNetwork

Say = Callable[[str], None]

_STARTS = 3
_RUNS = 3
_NODES = 20
_SPOKES = ("van", "bus", "evse")
_IN_FLIGHT = 20
_AMOUNT_MSAT = 1_000_000
_FEE_LIMIT_MSAT = 10_000  # the hub asks for 1001
_EXPIRY_S = 3600
_DESCRIPTION = "00" * 32  # SHA-256 of what is paid for; here of nothing


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--no-memory", action="store_true", help="leave the twenty nodes out")
    parser.add_argument("--no-payments", action="store_true", help="leave payments and calls out")
    parser.add_argument(
        "--payments", type=int, default=40, metavar="N", help="one after the other in each run, 5 or more (40)"
    )


def measure(options: argparse.Namespace, say: Say) -> list[Figure]:
    """Build the programs if need be, start networks, weigh one."""
    from ledgers.lightning.nodes.build import build_programs  # noqa: PLC0415  # help needs nothing of the bench

    programs = build_programs(progress=lambda done, total, what: say(f"{done}/{total} {what}"))
    with tempfile.TemporaryDirectory(prefix="v2gbench-lightning-") as folder:
        figures = [_built(programs), *_ready(Path(folder), programs, say)]
        if not options.no_payments:
            figures += _paying(Path(folder), programs, max(5, options.payments), say)
        if not options.no_memory:
            figures += _memory(Path(folder), programs, say)
    return figures


def _built(programs: Programs) -> Figure:
    return Figure("programs_mb", sum(programs.size_bytes.values()) / 1e6, "MB")


def _ready(cache: Path, programs: Programs, say: Say) -> list[Figure]:
    from ledgers.lightning.nodes.network import LightningNetwork  # noqa: PLC0415
    from ledgers.lightning.nodes.plan import hub_and_spokes  # noqa: PLC0415

    plan = hub_and_spokes("measured", spokes=_SPOKES)

    def start() -> float:
        begin = time.perf_counter()
        with LightningNetwork(plan, cache=cache, programs=programs) as network:
            seconds = time.perf_counter() - begin
            origin = "the cache" if network.started_from_store else "nothing"
            say(f"hub and 3 spokes from {origin}: {seconds:.2f} s")
        return seconds

    first = start()
    return [
        Figure("network_first_s", first, "s"),
        Figure("network_ready_s", max(start() for _ in range(_STARTS)), "s", goal=20.0, goal_kind="max"),
    ]


def _paying(cache: Path, programs: Programs, payments: int, say: Say) -> list[Figure]:
    from ledgers.lightning.client import LndClient, NodeAccess  # noqa: PLC0415
    from ledgers.lightning.nodes.network import LightningNetwork  # noqa: PLC0415
    from ledgers.lightning.nodes.plan import hub_and_spokes  # noqa: PLC0415

    def access(name: str) -> NodeAccess:
        where = network.address(name)
        return NodeAccess.from_files(name, where.address, certificate=where.tls_cert_path, macaroon=where.macaroon_path)

    plan = hub_and_spokes("measured", spokes=_SPOKES)
    runs: list[tuple[float, ...]] = []
    with ExitStack() as stack:
        network = stack.enter_context(LightningNetwork(plan, cache=cache, programs=programs))
        van, evse = (stack.enter_context(LndClient(access(name))) for name in ("van", "evse"))
        payee = evse.public_key
        _serial_ms(van, evse, payee, 3)  # routes are known, channels to the nodes are open
        for number in range(1, _RUNS + 1):
            serial_ms = _serial_ms(van, evse, payee, payments)
            per_s = _parallel_per_s(access("van"), evse, payee, 4 * payments)
            settle_ms, paid_ms = _holds_ms(van, evse, payee, payments // 2)
            kept_per_s, stock_per_s = _calls_per_s(van, network)
            runs.append((serial_ms, per_s, settle_ms, paid_ms, kept_per_s, stock_per_s))
            say(
                f"run {number} of {_RUNS}: {serial_ms:.0f} ms a payment, {per_s:.1f}/s with {_IN_FLIGHT} in flight, "
                f"a hold settled in {settle_ms:.1f} ms, {kept_per_s:.0f} calls/s, stock {stock_per_s:.0f}"
            )
    serial, parallel, settled, paid, _, _ = zip(*runs, strict=True)
    _, _, _, _, kept_per_s, stock_per_s = min(runs, key=lambda run: run[4] / run[5])
    return [
        Figure("pay_p50_ms", max(serial), "ms", goal=260.0, goal_kind="max"),
        Figure("payments_per_s_20", min(parallel), "1/s", goal=30.0, goal_kind="min"),
        Figure("hold_settle_ms", max(settled), "ms", goal=50.0, goal_kind="max"),
        Figure("hold_paid_ms", max(paid), "ms"),
        Figure(
            "calls_per_s",
            kept_per_s,
            "1/s",
            peer="lnd-grpc-client, a channel for each call",
            peer_value=stock_per_s,
            ratio=kept_per_s / stock_per_s,
        ),
        Figure("calls_ratio_to_stock", kept_per_s / stock_per_s, "1", goal=2.0, goal_kind="min"),
    ]


def _invoiced(evse: LndClient, payee: str, *, preimage: str) -> tuple[str, Agreed]:
    from ledgers.lightning.client import Agreed  # noqa: PLC0415
    from ledgers.lightning.client.values import hash_of  # noqa: PLC0415

    text = evse.add_invoice(_AMOUNT_MSAT, preimage=preimage, description_hash=_DESCRIPTION, expiry_s=_EXPIRY_S)
    return text, Agreed(hash_of(preimage), _AMOUNT_MSAT, _DESCRIPTION, payee)


def _serial_ms(van: LndClient, evse: LndClient, payee: str, payments: int) -> float:
    """Median time of one payment after the other, ms."""
    took = []
    for text, agreed in [_invoiced(evse, payee, preimage=os.urandom(32).hex()) for _ in range(payments)]:
        begin = time.perf_counter()
        van.pay(text, agreed, fee_limit_msat=_FEE_LIMIT_MSAT)
        took.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(took)


def _parallel_per_s(access: NodeAccess, evse: LndClient, payee: str, payments: int) -> float:
    """Payments a second with `_IN_FLIGHT` under way."""
    from ledgers.lightning.client import AsyncLndClient  # noqa: PLC0415

    invoices = [_invoiced(evse, payee, preimage=os.urandom(32).hex()) for _ in range(payments)]

    async def pay_all() -> float:
        async with AsyncLndClient(access) as client:
            waiting = iter(invoices)

            async def pay() -> None:
                for text, agreed in waiting:
                    await client.pay(text, agreed, fee_limit_msat=_FEE_LIMIT_MSAT)

            begin = time.perf_counter()
            await asyncio.gather(*(pay() for _ in range(_IN_FLIGHT)))
            return time.perf_counter() - begin

    return payments / asyncio.run(pay_all())


def _holds_ms(van: LndClient, evse: LndClient, payee: str, holds: int) -> tuple[float, float]:
    """Median time from giving a preimage until the payee's node has settled, and until the payer's says paid, ms."""
    from ledgers.lightning.client import Agreed  # noqa: PLC0415
    from ledgers.lightning.client.lnd import wait_held  # noqa: PLC0415
    from ledgers.lightning.client.values import InvoiceState, PaymentState, hash_of  # noqa: PLC0415

    settled, paid = [], []
    for _ in range(holds):
        preimage = os.urandom(32).hex()
        agreed = Agreed(hash_of(preimage), _AMOUNT_MSAT, _DESCRIPTION, payee)
        text = evse.add_hold_invoice(
            _AMOUNT_MSAT,
            payment_hash=agreed.payment_hash,
            description_hash=_DESCRIPTION,
            expiry_s=_EXPIRY_S,
            cltv_blocks=144,
        )
        van.begin(text, agreed, fee_limit_msat=_FEE_LIMIT_MSAT)
        wait_held(van, evse, agreed.payment_hash, wait_s=30.0)
        begin = time.perf_counter()
        evse.settle_invoice(preimage)
        while evse.lookup_invoice(agreed.payment_hash).state is not InvoiceState.SETTLED:
            pass
        settled.append(time.perf_counter() - begin)
        while van.track(agreed.payment_hash, wait_s=10.0).state is not PaymentState.SUCCEEDED:
            pass
        paid.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(settled), 1e3 * statistics.median(paid)


def _calls_per_s(van: LndClient, network: LightningNetwork, calls: int = 100) -> tuple[float, float]:
    """GetInfo a second: with the kept channel, and with the stock client."""
    from ledgers.lightning.errors import NodeFailed  # noqa: PLC0415

    where = network.address("van")
    # Imported after our own client, which has undone what this package does to the TLS of the process.
    stock = import_module("lndgrpc").LNDClient(
        where.address, cert_filepath=str(where.tls_cert_path), macaroon_filepath=str(where.macaroon_path)
    )

    def stock_info() -> None:
        if getattr(stock.get_info(), "identity_pubkey", None) != where.public_key:
            raise NodeFailed("the stock client got no answer, so there is nothing to compare with")

    def per_s(ask: Callable[[], object]) -> float:
        ask()
        begin = time.perf_counter()
        for _ in range(calls):
            ask()
        return calls / (time.perf_counter() - begin)

    return per_s(van.info), per_s(stock_info)


def _memory(cache: Path, programs: Programs, say: Say) -> list[Figure]:
    from ledgers.lightning.nodes.network import LightningNetwork  # noqa: PLC0415
    from ledgers.lightning.nodes.plan import hub_and_spokes  # noqa: PLC0415

    plan = hub_and_spokes("weighed", spokes=[f"van{number}" for number in range(1, _NODES)], capacity_sat=1_000_000)
    begin = time.perf_counter()
    with LightningNetwork(plan, cache=cache, programs=programs, stored=False, ready_s=300.0) as network:
        seconds = time.perf_counter() - begin
        rss, pss = _weigh(network)
        say(f"{_NODES} nodes from nothing in {seconds:.1f} s: {rss:.0f} MB resident, {pss:.0f} MB without sharing")
    return [
        Figure("network_20_nodes_first_s", seconds, "s"),
        Figure("rss_20_nodes_mb", rss, "MB", goal=3000.0, goal_kind="max"),
        Figure("pss_20_nodes_mb", pss, "MB"),
    ]


def _weigh(network: LightningNetwork) -> tuple[float, float]:
    """Resident and proportional memory of all processes of a network, MB (10^6 bytes), from /proc/PID/smaps_rollup."""
    rss = pss = 0
    for name in ("chain", *network.names):
        for line in Path(f"/proc/{network.process_id(name)}/smaps_rollup").read_text("ascii").splitlines():
            key, _, rest = line.partition(":")
            rss += int(rest.split()[0]) if key == "Rss" else 0
            pss += int(rest.split()[0]) if key == "Pss" else 0
    return rss * 1024 / 1e6, pss * 1024 / 1e6
