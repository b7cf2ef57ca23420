"""Which Lightning nodes pay for a session of a station: a hub, and a spoke for each party of its tariff.

Here, because both the plan that says what would be opened and the settlement that opens it have to know.
"""

from __future__ import annotations

from ledgers.lightning.nodes.plan import NetworkPlan, hub_and_spokes
from ledgers.tariff import Tariff

NETWORK_NAME = "session"


def account_nodes(tariff: Tariff) -> dict[str, str]:
    """Account -> name of its node. Nodes are named by role: an account may have any name, a node may not."""
    return {tariff.driver: "driver", tariff.seller: "seller", tariff.aggregator: "aggregator"}


def session_network(tariff: Tariff) -> NetworkPlan:
    """The network of a session, with the balances that it begins with."""
    return hub_and_spokes(NETWORK_NAME, spokes=list(account_nodes(tariff).values()))
