"""One lnd node: its configuration, its keys from a seed, and the calls that building a network takes.

Payments and invoices are not made here; `ledgers.lightning.client` speaks to a node that runs, through `NodeAddress`.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ledgers.lightning.client.values import InvoiceState
from ledgers.lightning.client.wire import read_invoice, wire
from ledgers.lightning.errors import NodeFailed, NodeTimeout
from ledgers.lightning.nodes.plan import NodePlan

WALLET_PASSWORD = "v2gbench-regtest"  # noqa: S105  # of wallets without worth; a node of ours opens its own
CALL_S = 30.0
NO_WALLET, LOCKED, SERVER_ACTIVE = 0, 1, 4  # lnrpc.WalletState
_ANCHORS = 3  # lnrpc.CommitmentType: this one, and all that came after it
_CLOSE_TARGET = 6  # blocks; lnd's default for closing a channel
WALLET_STATES = range(5)  # 255: waiting to start

_REGTEST_XPRV = 0x04358394  # BIP 32 version bytes of a private key on test networks ("tprv")
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CERTIFICATE_END = b"-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """How to reach a node: host, gRPC port, its TLS certificate and its admin macaroon (binary), and its public key."""

    name: str
    host: str
    grpc_port: int
    tls_cert_path: Path
    macaroon_path: Path
    public_key: str

    @property
    def address(self) -> str:
        """host:port of the gRPC service."""
        return f"{self.host}:{self.grpc_port}"


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel as one of its nodes sees it; balances are that node's."""

    point: str
    channel_id: int
    peer_key: str
    active: bool
    capacity_sat: int
    local_sat: int
    remote_sat: int
    commit_fee_sat: int
    pending_htlcs: int
    is_opener: bool
    sent_sat: int
    received_sat: int
    anchors: bool = False
    fee_sat_per_kw: int = 0
    dust_limits_sat: tuple[int, int] = (354, 354)  # of this node's commitment and of the peer's
    htlcs: tuple[tuple[bool, int, str], ...] = ()  # incoming, whole satoshi, payment hash


@dataclass(frozen=True, slots=True)
class Books:
    """What a node has in its channels, from its own commitments, exact to the msat, and what it knows of each.

    `coming_msat` and `going_msat` are HTLCs under way towards the node and from it.
    """

    local_msat: int
    remote_msat: int
    coming_msat: int
    going_msat: int
    channels: tuple[ChannelView, ...]


@dataclass(frozen=True, slots=True)
class Closing:
    """A channel that closes, as one of its nodes sees it; `limbo_sat` is what that node still waits for.

    `closing_txid` is empty while the closing transaction waits for its first block. `heights` are the blocks at which
    its own side, and each HTLC, can be taken without a preimage; some may be past.
    """

    point: str
    peer_key: str
    closing_txid: str
    limbo_sat: int
    heights: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphView:
    """What a node knows of the network: channel ids, those with the policies of both sides, addresses of nodes."""

    channels: frozenset[int]
    complete: frozenset[int]
    addresses: Mapping[str, tuple[str, ...]]


def node_options(
    plan: NodePlan,
    *,
    peer_port: int,
    grpc_port: int,
    chain_port: int,
    chain_user: str,
    chain_password: str,
    chain_certificate: Path,
    password_file: Path | None,
    fee_url: str,
) -> list[str]:
    """The lines of lnd.conf: regtest on our btcd, loopback alone, quick gossip."""
    policy = plan.policy
    opening = (
        []
        if password_file is None
        else [f"wallet-unlock-password-file={password_file}", "wallet-unlock-allow-create=true"]
    )
    return [
        "[Application Options]",
        f"alias={plan.name}",
        f"listen=127.0.0.1:{peer_port}",
        f"externalip=127.0.0.1:{peer_port}",  # in the graph, so that a peer finds the way back
        f"rpclisten=127.0.0.1:{grpc_port}",
        "norest=true",
        "maxpendingchannels=100",  # parallel channels with one peer are opened in one block
        "nobootstrap=true",
        "tlsdisableautofill=true",
        "debuglevel=info",
        "logging.file.disable=true",  # the console goes to a log of ours
        "minbackoff=200ms",
        "maxbackoff=2s",
        "trickledelay=50",
        "accept-keysend=true",
        "keep-failed-payment-attempts=true",
        *opening,
        "gossip.sub-batch-delay=5ms",
        "caches.rpc-graph-cache-duration=100ms",
        "db.batch-commit-interval=5ms",
        "dev.unsafedisconnect=true",  # peers with channels may be parted, which is a fault that we plant
        "healthcheck.diskspace.attempts=0",  # lnd stops itself on a machine whose disk is nine tenths full
        *plan.options,
        "[Bitcoin]",
        "bitcoin.regtest=true",
        "bitcoin.node=btcd",
        "bitcoin.defaultchanconfs=1",
        "bitcoin.defaultremotedelay=4",  # blocks until a force close pays out; lnd's own tests use the same
        f"bitcoin.basefee={policy.base_fee_msat}",
        f"bitcoin.feerate={policy.fee_rate_ppm}",
        f"bitcoin.timelockdelta={policy.time_lock_delta}",
        f"bitcoin.minhtlc={policy.min_htlc_msat}",
        "[Btcd]",
        f"btcd.rpchost=127.0.0.1:{chain_port}",
        f"btcd.rpcuser={chain_user}",
        f"btcd.rpcpass={chain_password}",
        f"btcd.rpccert={chain_certificate}",
        "[fee]",
        f"fee.url={fee_url}",
    ]


def master_key(seed: int, name: str) -> str:
    """The extended private key (BIP 32, base58) of a node's wallet, the same for the same seed and name."""
    entropy = hashlib.sha256(f"v2gbench lightning regtest {seed} {name}".encode()).digest()
    node = hmac.digest(b"Bitcoin seed", entropy, "sha512")
    body = _REGTEST_XPRV.to_bytes(4, "big") + bytes(9) + node[32:] + b"\x00" + node[:32]
    checked = body + hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]
    number, text = int.from_bytes(checked, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return text


class NodeCalls:
    """Kept channel to one lnd for the calls that a network needs; open it when the node's port listens.

    Raises NodeFailed with lnd's code and words, NodeTimeout when there was no answer in time.
    """

    def __init__(self, name: str, *, address: str, certificate: Path, macaroon: Path) -> None:
        self.name = name
        self._address = address
        self._certificate = certificate
        self._macaroon = macaroon
        self._guard = threading.Lock()
        self._channel: Any = None

    def close(self) -> None:
        """Close the channel; the next call opens another."""
        with self._guard:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    # Wallet.

    def state(self) -> int | None:
        """lnrpc.WalletState; None while nobody answers."""
        try:
            return int(self._call("State", "GetState", {}, limit_s=2.0).state)
        except (NodeFailed, NodeTimeout):
            return None

    def make_wallet(self, key: str, *, birthday_unix_s: int) -> None:
        """Make the wallet from an extended private key, without a search for old money."""
        self._call(
            "WalletUnlocker",
            "InitWallet",
            {
                "wallet_password": WALLET_PASSWORD.encode(),
                "extended_master_key": key,
                "extended_master_key_birthday_timestamp": birthday_unix_s,
            },
        )

    def unlock(self) -> None:
        """Open a locked wallet."""
        self._call("WalletUnlocker", "UnlockWallet", {"wallet_password": WALLET_PASSWORD.encode()})

    def wallet_sat(self) -> tuple[int, int]:
        """Confirmed and unconfirmed satoshi in the wallet."""
        balance = self._lightning("WalletBalance")
        return int(balance.confirmed_balance), int(balance.unconfirmed_balance)

    def market_sat_per_kw(self) -> int:
        """What a transaction costs that is to be confirmed within six blocks, in satoshi per 1000 weight units.

        lnd closes a channel at this rate when no other is asked for.
        """
        return int(self._call("WalletKit", "EstimateFee", {"conf_target": _CLOSE_TARGET}).sat_per_kw)

    def new_address(self) -> str:
        """An unused address of the wallet (pay to witness public key hash)."""
        return str(self._lightning("NewAddress", type=0).address)

    def earned_sat(self) -> int:
        """Fees that the node earned by forwarding, in the last 30 days."""
        return int(self._lightning("FeeReport").month_fee_sum)

    # State.

    def info(self) -> Any:
        """GetInfo's answer."""
        return self._lightning("GetInfo")

    def public_key(self) -> str:
        """The node's identity, in hexadecimal."""
        return str(self.info().identity_pubkey)

    def is_synced_at(self, height: int) -> bool:
        """Whether the node has seen the block at `height` and calls itself synced."""
        info = self.info()
        return bool(info.synced_to_chain) and int(info.block_height) >= height

    def channels(self) -> tuple[ChannelView, ...]:
        """The open channels."""
        return tuple(
            ChannelView(
                point=channel.channel_point,
                channel_id=channel.chan_id,
                peer_key=channel.remote_pubkey,
                active=channel.active,
                capacity_sat=channel.capacity,
                local_sat=channel.local_balance,
                remote_sat=channel.remote_balance,
                commit_fee_sat=channel.commit_fee,
                pending_htlcs=len(channel.pending_htlcs),
                is_opener=channel.initiator,
                sent_sat=channel.total_satoshis_sent,
                received_sat=channel.total_satoshis_received,
                fee_sat_per_kw=channel.fee_per_kw,
                anchors=channel.commitment_type >= _ANCHORS,
                dust_limits_sat=(channel.local_constraints.dust_limit_sat, channel.remote_constraints.dust_limit_sat),
                htlcs=tuple((htlc.incoming, htlc.amount, htlc.hash_lock.hex()) for htlc in channel.pending_htlcs),
            )
            for channel in self._lightning("ListChannels").channels
        )

    def books(self) -> Books:
        """The node's channels at one moment; raises NodeTimeout when they change faster than they can be read."""
        limit = time.monotonic() + CALL_S
        before = self.channels()
        while True:
            sums = self._lightning("ChannelBalance")
            after = self.channels()
            if after == before:
                return Books(
                    local_msat=int(sums.local_balance.msat),
                    remote_msat=int(sums.remote_balance.msat),
                    coming_msat=int(sums.unsettled_local_balance.msat),
                    going_msat=int(sums.unsettled_remote_balance.msat),
                    channels=after,
                )
            if time.monotonic() > limit:
                raise NodeTimeout(f"the channels of node {self.name!r} changed for {CALL_S:g} s; pay less meanwhile")
            before = after

    def closings(self) -> tuple[Closing, ...]:
        """The channels that close, until the node has all that it can get of each."""
        pending = self._lightning("PendingChannels")
        return (
            *(
                Closing(item.channel.channel_point, item.channel.remote_node_pub, "", item.limbo_balance, ())
                for item in pending.waiting_close_channels
            ),
            *(
                Closing(
                    point=item.channel.channel_point,
                    peer_key=item.channel.remote_node_pub,
                    closing_txid=item.closing_txid,
                    limbo_sat=item.limbo_balance,
                    heights=(item.maturity_height, *(htlc.maturity_height for htlc in item.pending_htlcs)),
                )
                for item in pending.pending_force_closing_channels
            ),
        )

    def opening_points(self) -> frozenset[str]:
        """Funding ("txid:index") of the channels whose funding waits for its block."""
        found = self._lightning("PendingChannels").pending_open_channels
        return frozenset(item.channel.channel_point for item in found)

    def closed_points(self) -> frozenset[str]:
        """Funding ("txid:index") of the channels that are closed for good."""
        return frozenset(channel.channel_point for channel in self._lightning("ClosedChannels").channels)

    def unspent_sat(self) -> Mapping[str, int]:
        """Each coin in the wallet ("txid:index") and its satoshi, unconfirmed ones too; none that is set aside."""
        found = self._lightning("ListUnspent", min_confs=0, max_confs=2**31 - 1)
        return {f"{coin.outpoint.txid_str}:{coin.outpoint.output_index}": int(coin.amount_sat) for coin in found.utxos}

    def invoice_state(self, payment_hash: str) -> InvoiceState:
        """How an invoice of the node stands."""
        answer = self._call("Invoices", "LookupInvoiceV2", {"payment_hash": bytes.fromhex(payment_hash)})
        return read_invoice(answer).state

    def settle_invoice(self, preimage: str) -> None:
        """Give a preimage to the node; again is safe."""
        self._call("Invoices", "SettleInvoice", {"preimage": bytes.fromhex(preimage)})

    def graph(self) -> GraphView:
        """Channels and addresses as this node knows them."""
        graph = self._lightning("DescribeGraph")
        return GraphView(
            channels=frozenset(edge.channel_id for edge in graph.edges),
            complete=frozenset(
                edge.channel_id
                for edge in graph.edges
                if edge.HasField("node1_policy") and edge.HasField("node2_policy")
            ),
            addresses={node.pub_key: tuple(item.addr for item in node.addresses) for node in graph.nodes},
        )

    def peers(self) -> frozenset[str]:
        """Public keys of the nodes it is connected to."""
        return frozenset(peer.pub_key for peer in self._lightning("ListPeers").peers)

    def ask(self, method: str, **fields: object) -> Any:
        """The raw answer to a call of lnd's service Lightning; for `history`, which knows what it means."""
        return self._lightning(method, **fields)

    # Changes.

    def connect(self, public_key: str, host: str) -> None:
        """Connect to a peer and stay connected; nothing happens when it is."""
        messages = wire().ln
        address = messages.LightningAddress(pubkey=public_key, host=host)
        try:
            self._lightning("ConnectPeer", addr=address, perm=False, timeout=5)
        except NodeFailed as error:
            if "already connected" not in str(error):
                raise

    def disconnect(self, public_key: str) -> None:
        """Part from a peer."""
        self._lightning("DisconnectPeer", pub_key=public_key)

    def open_channel(
        self, public_key: str, *, capacity_sat: int, push_sat: int, sat_per_vbyte: int | None = None
    ) -> str:
        """Open a channel with confirmed money; returns "txid:index" of its unconfirmed funding.

        What its transaction costs is what the node is told by the fee market, unless given.
        """
        point = self._lightning(
            "OpenChannelSync",
            node_pubkey=bytes.fromhex(public_key),
            local_funding_amount=capacity_sat,
            push_sat=push_sat,
            min_confs=1,
            **({} if sat_per_vbyte is None else {"sat_per_vbyte": sat_per_vbyte}),
        )
        return f"{bytes(point.funding_txid_bytes)[::-1].hex()}:{point.output_index}"

    def close_channel(self, point: str, *, force: bool) -> str:
        """Begin to close a channel, alone when `force`; returns the id of the unconfirmed closing transaction."""
        messages = wire().ln
        txid, _, index = point.partition(":")
        stream = self._stream(
            "CloseChannel",
            channel_point=messages.ChannelPoint(funding_txid_str=txid, output_index=int(index)),
            force=force,
        )
        try:
            for update in stream:
                if update.HasField("close_pending"):
                    return bytes(update.close_pending.txid)[::-1].hex()
        except wire().grpc.RpcError as error:
            raise self._error("CloseChannel", error) from error
        finally:
            stream.cancel()
        raise NodeFailed(f"node {self.name!r} ended CloseChannel of {point} without a transaction")

    def set_policy(
        self, *, base_fee_msat: int, fee_rate_ppm: int, time_lock_delta: int, point: str | None = None
    ) -> None:
        """Change what the node asks for forwarding, on one channel or on all."""
        messages = wire().ln
        scope: dict[str, object] = {"global": True}
        if point is not None:
            txid, _, index = point.partition(":")
            scope = {"chan_point": messages.ChannelPoint(funding_txid_str=txid, output_index=int(index))}
        self._lightning(
            "UpdateChannelPolicy",
            base_fee_msat=base_fee_msat,
            fee_rate_ppm=fee_rate_ppm,
            time_lock_delta=time_lock_delta,
            **scope,
        )

    # Private.

    def _lightning(self, method: str, **fields: object) -> Any:
        return self._call("Lightning", method, fields)

    def _call(self, service: str, method: str, fields: Mapping[str, object], *, limit_s: float = CALL_S) -> Any:
        messages, stub = _service(service)
        try:
            return getattr(stub(self._open()), method)(
                _request(messages, method, fields), timeout=limit_s, metadata=self._metadata()
            )
        except wire().grpc.RpcError as error:
            raise self._error(method, error) from error

    def _stream(self, method: str, **fields: object) -> Any:
        messages, stub = _service("Lightning")
        call = getattr(stub(self._open()), method)
        return call(_request(messages, method, fields), timeout=CALL_S, metadata=self._metadata())

    def _open(self) -> Any:
        with self._guard:
            if self._channel is None:
                grpc = wire().grpc
                try:
                    certificate = self._certificate.read_bytes()
                except OSError as error:
                    raise NodeFailed(f"node {self.name!r} has no certificate yet: {error.strerror}") from error
                # lnd makes the file and then fills it; gRPC would take an empty one for the system's own roots, and
                # this channel would refuse the node for ever.
                if not certificate.rstrip().endswith(_CERTIFICATE_END):
                    raise NodeFailed(f"node {self.name!r} is still writing its certificate")
                credentials = grpc.ssl_channel_credentials(certificate)
                options = (("grpc.max_reconnect_backoff_ms", 200), ("grpc.enable_http_proxy", 0))
                self._channel = grpc.secure_channel(self._address, credentials, options)
            return self._channel

    def _metadata(self) -> list[tuple[str, str]]:
        try:
            return [("macaroon", self._macaroon.read_bytes().hex())]
        except FileNotFoundError:
            return []  # before there is a wallet there is no macaroon, and none is asked for

    def _error(self, method: str, error: Any) -> NodeFailed | NodeTimeout:
        code, words = error.code().name, error.details()
        kind = NodeTimeout if code == "DEADLINE_EXCEEDED" else NodeFailed
        return kind(f"node {self.name!r} refused {method}: {code}, {words}")


_REQUESTS = {
    "OpenChannelSync": "OpenChannelRequest",
    "UpdateChannelPolicy": "PolicyUpdateRequest",
    "DescribeGraph": "ChannelGraphRequest",
    "LookupInvoiceV2": "LookupInvoiceMsg",
    "SettleInvoice": "SettleInvoiceMsg",
    "ListInvoices": "ListInvoiceRequest",
}


def _request(messages: ModuleType, method: str, fields: Mapping[str, object]) -> Any:
    return getattr(messages, _REQUESTS.get(method, f"{method}Request"))(**fields)


def _service(name: str) -> tuple[ModuleType, type[Any]]:
    """The messages and the stub of one of lnd's services; `client.wire` imports them."""
    modules = wire()
    return {
        "Lightning": (modules.ln, modules.ln_rpc.LightningStub),
        "Invoices": (modules.invoices, modules.invoices_rpc.InvoicesStub),
        "State": (modules.state, modules.state_rpc.StateStub),
        "WalletKit": (modules.walletkit, modules.walletkit_rpc.WalletKitStub),
        "WalletUnlocker": (modules.unlocker, modules.unlocker_rpc.WalletUnlockerStub),
    }[name]
