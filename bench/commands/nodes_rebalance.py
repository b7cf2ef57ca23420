"""`v2gbench nodes rebalance`: circular payments in a network that `nodes up` keeps.

Their journal lies beside the nodes' data, and goes with it when the network starts anew.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

from bench.commands.nodes import network_folder
from ledgers.lightning.client import FeeLimit, LndClient, NodeAccess
from ledgers.lightning.nodes.status import read_description
from ledgers.lightning.rebalancing import Link, Rebalanced, Rebalancer, as_opened, evenly


def rebalance(
    name: str,
    *,
    to: Literal["opened", "even"],
    dry_run: bool,
    base_msat: int,
    ppm: int,
    least_msat: int,
) -> Rebalanced:
    """Bring a running network's channels to their targets; raises NodeFailed when none runs, LndError."""
    folder = network_folder(name)
    with ExitStack() as stack:
        clients = {
            access.name: stack.enter_context(LndClient(access))
            for access in _accesses(folder, read_description(folder))
        }
        rebalancer = stack.enter_context(
            Rebalancer(
                folder / "nodes" / "rebalancing",
                clients,
                limit=FeeLimit(base_msat, ppm),
                least_msat=least_msat,
            )
        )
        return rebalancer.run(as_opened if to == "opened" else evenly, dry_run=dry_run)


def text(done: Rebalanced) -> str:
    """The result for people."""
    lines = [
        f"would pay {_sat(circle.amount_msat)} sat {circle.way} for {circle.fee_msat} msat"
        for circle in (done.planned if done.dry_run else ())
    ]
    lines += [
        f"{item.payer} paid itself {_sat(item.amount_msat)} sat for {item.fee_msat} msat ({item.payment_hash})"
        for item in done.paid
    ]
    lines += [
        f"  {_ends(before)} {_sat(before.left.balance_msat)} -> {_sat(after.left.balance_msat)} sat"
        for before, after in zip(done.before, done.after, strict=True)
        if before.left.balance_msat != after.left.balance_msat
    ]
    verb = "would lie" if done.dry_run else "lie"
    lines.append(
        f"on the wrong side lay {_sat(done.distance_before_msat)} sat, {verb} {_sat(done.distance_after_msat)} sat; "
        f"fees {done.fee_msat} msat"
    )
    if done.words:
        lines.append(done.words)
    return "\n".join(lines)


# Private --------------------------------------------------------------------------------------------------------------


def _accesses(folder: Path, description: object) -> list[NodeAccess]:
    nodes = cast("dict[str, list[dict[str, object]]]", description)["nodes"]
    return [
        NodeAccess.from_files(
            str(node["name"]),
            f"{node['host']}:{node['grpc_port']}",
            certificate=folder / str(node["tls_cert"]),
            macaroon=folder / str(node["macaroon"]),
        )
        for node in nodes
    ]


def _ends(link: Link) -> str:
    return f"{link.left.node} to {link.right.node}:"


def _sat(msat: int) -> str:
    whole, rest = divmod(msat, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)
