"""Keywords that plant faults in the Lightning nodes of a session, and end them.

A node is named as in the network (`hub`, `driver`, `seller`, `aggregator`), or by the account whose money it has
(`ev_owner`). They ask nobody to wait: real nodes live in real time, and session time stands still meanwhile.
"""

from __future__ import annotations

from bench.keywords.component import Component
from bench.keywords.robot_face import keyword, say
from bench.session_network import SessionNetwork
from drivers.errors import ConfigError
from ledgers.lightning.nodes.fees import NORMAL_SAT_PER_VBYTE
from ledgers.lightning.nodes.plan import CHAIN
from ledgers.lightning.nodes.processes import wait_until
from ledgers.lightning.nodes.session import answers

_MISSED_S = 30.0
_MOST_BLOCKS = 1000
_DEEPEST = 100


class LightningComponent(Component):
    """What keywords about nodes have in common."""

    def nodes(self) -> SessionNetwork:
        """The network of the opened session; ConfigError for a station whose settlement has none."""
        opened = self.bench.opened
        network = opened.session.network
        if network is None:
            raise ConfigError(
                f"station {opened.station.name!r} keeps its accounts in the run folder, and this keyword needs real "
                "nodes; run the plan at a station with 'settlement: {kind: lightning, ...}', such as "
                "stations/emulated-lightning.yaml"
            )
        return network


class NodeKeywords(LightningComponent):
    """Faults of nodes, of their connections, of the chain and its fees."""

    @keyword("nodes", "fault")
    def stop_node(self, node: str) -> None:
        """Let a node end in order, as its operator would; returns when its peers know. ``chain`` is the chain's node.

        Example:
        | Stop Node | hub |
        """
        name = self.nodes().node(node, or_chain=True)
        self.nodes().network.stop(name)
        self._wait_until_missed(name)
        say(f"{name} has ended")

    @keyword("nodes", "fault")
    def kill_node(self, node: str) -> None:
        """End a node as a power cut would (SIGKILL); returns when its peers know. ``chain`` is the chain's node.

        Example:
        | Kill Node | seller |
        """
        name = self.nodes().node(node, or_chain=True)
        self.nodes().network.kill(name)
        self._wait_until_missed(name)
        say(f"{name} was killed")

    @keyword("nodes")
    def start_node(self, node: str) -> None:
        """Start a node that was stopped or killed, and wait until it is synced and its channels are active.

        Channels to nodes that are down are not waited for.
        """
        name = self.nodes().node(node, or_chain=True)
        self.nodes().network.start(name)
        self.nodes().network.wait_ready()
        say(f"{name} is back")

    @keyword("nodes", "fault")
    def freeze_node(self, node: str) -> None:
        """Let a node stand still (SIGSTOP): its connections stay, and it answers nothing; ``chain`` may freeze too."""
        self.nodes().network.pause(self.nodes().node(node, or_chain=True))

    @keyword("nodes")
    def thaw_node(self, node: str) -> None:
        """Let a frozen node go on, and wait until it is synced and its channels are active."""
        self.nodes().network.resume(self.nodes().node(node, or_chain=True))
        self.nodes().network.wait_ready()

    @keyword("nodes", "fault")
    def part_nodes(self, node: str, other: str) -> None:
        """Disconnect two nodes. They come together again by themselves within seconds, as on the internet."""
        self.nodes().network.disconnect(self.nodes().node(node), self.nodes().node(other))

    @keyword("nodes")
    def join_nodes(self, node: str, other: str) -> None:
        """Connect two nodes and wait until they are."""
        self.nodes().network.connect(self.nodes().node(node), self.nodes().node(other))

    @keyword("nodes")
    def mine_blocks(self, blocks: int) -> int:
        """Mine blocks, and wait until every running node has seen them; returns the height of the chain.

        Example:
        | Mine Blocks | 6 |
        """
        _within(blocks, _MOST_BLOCKS, "blocks")
        self.nodes().network.mine(blocks)
        return self._height()

    @keyword("nodes", "fault")
    def reorganise_chain(self, depth: int) -> int:
        """Undo the newest blocks and mine one more in their place; returns the height of the chain.

        Example:
        | Reorganise Chain | depth=3 |
        """
        _within(depth, _DEEPEST, "blocks deep")
        self.nodes().network.reorganise(depth)
        return self._height()

    @keyword("nodes", "fault")
    def spike_fees(self, sat_per_vbyte: int) -> None:
        """Let transactions on the chain cost so many satoshi per virtual byte, until `Calm Fees`."""
        _within(sat_per_vbyte, 100_000, "sat per virtual byte")
        self.nodes().network.spike_fees(sat_per_vbyte)

    @keyword("nodes")
    def calm_fees(self) -> None:
        """Let transactions on the chain cost what they usually do."""
        self.nodes().network.calm_fees()
        say(f"transactions cost {NORMAL_SAT_PER_VBYTE:g} sat per virtual byte")

    @keyword("nodes")
    def heal_network(self) -> None:
        """End every fault: frozen nodes go on, stopped ones start, fees are calm; waits until all channels are active.

        Money stays where it is.
        """
        self.nodes().network.heal()

    def _wait_until_missed(self, name: str) -> None:
        """A peer that has not noticed yet would still send money that way, and wait for it."""
        network = self.nodes().network
        if name == CHAIN:
            return
        key = network.address(name).public_key
        peers = [other for other in network.names if answers(network, other)]
        wait_until(
            lambda: not any(key in network.calls(other).peers() for other in peers),
            limit_s=_MISSED_S,
            what=f"{', '.join(peers)} to miss {name!r}",
        )

    def _height(self) -> int:
        height = self.nodes().network.chain.height()
        say(f"the chain has {height} blocks ({CHAIN})")
        return height


def _within(value: int, most: int, what: str) -> None:
    if not 1 <= value <= most:
        raise ConfigError(f"{value} {what} cannot be had; say 1 to {most}")
