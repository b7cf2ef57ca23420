"""The Lightning network of an opened session, for whoever plants faults in it, counts its money or tells of it.

The settlement knows its nodes by account and may do with each what a party does. This is the other side: the network
as its owner sees it, with every node, hub included. It lives as long as the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import ConfigError
from ledgers.evidence import write_atomically
from ledgers.lightning.nodes.network import LightningNetwork
from ledgers.lightning.nodes.plan import CHAIN
from ledgers.lightning.nodes.session import Snapshot, tell_session
from ledgers.lightning.session_network import NETWORK_FILE, NetworkTold
from ledgers.lightning.settlement import LightningSettlement


@dataclass(frozen=True, slots=True)
class SessionNetwork:
    """A running network, the node of each account of the tariff, and what lay in the channels when it was ready."""

    network: LightningNetwork
    accounts: Mapping[str, str]
    before: Snapshot

    def node(self, name: str, *, or_chain: bool = False) -> str:
        """The node of that name, or of the account of that name; raises ConfigError with the names that there are."""
        found = self.accounts.get(name, name)
        if found in self.network.names or (or_chain and found == CHAIN):
            return found
        known = ", ".join(
            f"{node} (of {account})" if account is not None else node
            for node, account in (
                (node, next((a for a, n in self.accounts.items() if n == node), None)) for node in self.network.names
            )
        )
        raise ConfigError(f"there is no node {name!r}; there are {known}{f', and {CHAIN}' if or_chain else ''}")

    def tell(self, settlement: LightningSettlement) -> NetworkTold:
        """What the settlement's payments did to the network, as the nodes tell it now."""
        return tell_session(self.network, accounts=self.accounts, before=self.before, debts=settlement.debts())

    def write(self, settlement: LightningSettlement) -> Path:
        """Write what `tell` tells beside the settlement's journal."""
        return write_atomically(settlement.folder / NETWORK_FILE, self.tell(settlement).to_bytes())
