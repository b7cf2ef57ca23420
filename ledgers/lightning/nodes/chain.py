"""The chain: btcd on regtest, mined on demand, and where its money went.

Blocks pay to a script that anybody may spend (P2WSH of OP_TRUE), so the miner needs no key, no wallet and no restart,
and its funds never mix with those of a node. On a private regtest chain that nobody else reaches this costs nothing.

btcd removes a regtest chain whenever it starts (btcd.go: removeRegressionDB). So each block is kept in `blocks.hex`, a
line each, and given back to a btcd that starts again (`restore`); without that a restart would be a reorganisation down
to the first block. The mempool of a btcd that stops is lost, on every chain.
"""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import ipaddress
import json
import secrets
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ledgers.lightning.errors import NodeFailed

# bcrt1 address of SHA-256(0x51): BIP 141 pay to witness script hash of the one-byte script OP_TRUE.
MINER_ADDRESS = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85"
MATURITY = 100  # blocks before a coinbase may be spent
FIRST_BLOCKS = 450  # SegWit and Taproot become active at 432 (three periods of 144 blocks)
BLOCKS_FILE = "blocks.hex"
SAT_PER_BTC = 100_000_000
_FIRST_SUBSIDY_SAT = 50 * SAT_PER_BTC
_HALVING = 150  # regtest
_FUNDING_FEE_SAT = 20_000
_REPLY_S = 30.0
_BATCH = 200


@dataclass(frozen=True, slots=True)
class ChainMoney:
    """What the chain says about money, from its active blocks.

    `funded_sat` was paid by the miner to the nodes, `node_fees_sat` by the nodes to the miner.
    """

    height: int
    funded_sat: int
    node_fees_sat: int


@dataclass(frozen=True, slots=True)
class Coin:
    """An output that nobody has spent; `txid` made it."""

    txid: str
    sat: int
    is_miner: bool


@dataclass(frozen=True, slots=True)
class ChainBooks:
    """Every coin there is, after the active blocks and what waits in the mempool.

    `minted_sat` is what the blocks were allowed to create, `unclaimed_sat` what a coinbase left out of that and of its
    fees. `node_fees_sat` stand in blocks, `waiting_fees_sat` in the mempool; the miner's own fees are its own money.
    `coins` and `spent_by` are keyed "txid:index"; `values` has every output that ever was, in satoshi; `inputs` and
    `outputs` are those of each transaction that is no coinbase.
    """

    height: int
    tip: str
    mempool: frozenset[str]
    minted_sat: int
    unclaimed_sat: int
    node_fees_sat: int
    waiting_fees_sat: int
    coins: Mapping[str, Coin]
    spent_by: Mapping[str, str]
    values: Mapping[str, int]
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]


class Chain:
    """Calls to one btcd (JSON-RPC over TLS on loopback); thread-safe, one connection per call.

    Raises NodeFailed with btcd's own words when it refuses or does not answer.
    """

    def __init__(self, folder: Path, *, port: int, user: str, password: str) -> None:
        self.folder = folder
        self.port = port
        self.user = user
        self.password = password
        self._context: ssl.SSLContext | None = None
        self._guard = threading.Lock()
        self._saving = threading.Lock()
        self._blocks = folder / BLOCKS_FILE
        self._kept: list[str] = []  # hashes of the blocks in that file
        self._next_coinbase = 1
        self._known: dict[str, list[Mapping[str, object]]] = {}  # of blocks that were read, by hash

    # Blocks.

    def answers(self) -> bool:
        """Whether btcd answers within two seconds."""
        try:
            self._post("getblockcount", [{"jsonrpc": "2.0", "id": 0, "method": "getblockcount", "params": []}], 2.0)
        except NodeFailed:
            return False
        return True

    def height(self) -> int:
        """Height of the best block."""
        return cast("int", self.call("getblockcount"))

    def mine(self, blocks: int = 1) -> list[str]:
        """Mine blocks at once, from what is in the mempool; returns their hashes, oldest first."""
        hashes = cast("list[str]", self.call("generate", blocks))
        self.save()
        return hashes

    def block_hash(self, height: int) -> str:
        """Hash of the active block at `height`."""
        return cast("str", self.call("getblockhash", height))

    def mempool(self) -> list[str]:
        """Ids of the transactions that wait for a block."""
        return cast("list[str]", self.call("getrawmempool"))

    def knows(self, txid: str) -> bool:
        """Whether a transaction waits for a block or is in one (btcd: txindex)."""
        try:
            self.call("getrawtransaction", txid, 0)
        except NodeFailed as error:
            if "No information available" in str(error):
                return False
            raise
        return True

    def reorganise(self, depth: int) -> list[str]:
        """Undo the last `depth` blocks and mine `depth` + 1 others in their place; returns the new hashes.

        Transactions of the undone blocks come back through the mempool and stand in the new ones.
        """
        height = self.height()
        if not 1 <= depth < height:
            raise NodeFailed(f"{depth} blocks cannot be undone on a chain of {height}")
        undone = [self.block_hash(number) for number in range(height - depth + 1, height + 1)]
        blocks = self.batch("getblock", [(block, 2) for block in undone])
        returned = [cast("str", item["hex"]) for block in blocks for item in _transactions(block)[1:]]
        self.call("invalidateblock", undone[0])
        for raw in returned:
            try:
                self.call("sendrawtransaction", raw)
            except NodeFailed as error:
                if "already have" not in str(error):  # btcd put it back by itself
                    raise
        return self.mine(depth + 1)

    def save(self) -> None:
        """Keep the blocks of the active chain that are not kept yet, and forget those that no longer belong to it."""
        with self._saving:
            hashes = self._hashes()
            kept = self._kept[: len(hashes)]
            while kept and kept[-1] != hashes[len(kept) - 1]:
                kept.pop()
            new = cast("list[str]", self.batch("getblock", [(block, 0) for block in hashes[len(kept) :]]))
            if len(kept) == len(self._kept):
                with self._blocks.open("a", encoding="ascii") as file:
                    file.writelines(f"{block}\n" for block in new)
            else:
                old = self._blocks.read_text("ascii").splitlines()[: len(kept)]
                self._blocks.write_text("".join(f"{block}\n" for block in [*old, *new]), "ascii")
            self._kept = hashes

    def restore(self) -> None:
        """Give the kept blocks back to a btcd that has just started; nothing happens when none are kept."""
        with self._saving:
            blocks = self._blocks.read_text("ascii").splitlines() if self._blocks.exists() else []
            self.batch("submitblock", [(block,) for block in blocks])
            height = self.height()
            if height != len(blocks):
                raise NodeFailed(
                    f"btcd took {height} of the {len(blocks)} blocks in {self._blocks}; build the network anew"
                )
            self._kept = self._hashes()

    # Money.

    def fund(self, payments: Sequence[tuple[str, int]]) -> str:
        """Pay satoshi to addresses from old coinbases, in one transaction; returns its id, unconfirmed."""
        with self._guard:
            needed = sum(amount for _, amount in payments) + _FUNDING_FEE_SAT
            inputs, found = self._coinbases(needed)
            outputs = [*payments]
            if found - needed >= 1000:  # above dust
                outputs.append((MINER_ADDRESS, found - needed))
            raw = self._unsigned(inputs, outputs)
            return cast("str", self.call("sendrawtransaction", _with_true_witness(raw, len(inputs))))

    def money(self) -> ChainMoney:
        """Add up every active block."""
        funded = fees = height = 0
        for height, (coinbase, *others) in enumerate(self._read(self._hashes()), 1):
            fees += sum(_sat(out) for out in _outputs(coinbase)) - subsidy_sat(height)
            for transaction in others:
                if _spends_true(transaction):
                    funded += sum(_sat(out) for out in _outputs(transaction) if not _is_miner(out))
                    fees -= _FUNDING_FEE_SAT
        return ChainMoney(height, funded, fees)

    def books(self) -> ChainBooks:
        """Follow every coin through the active blocks and the mempool; raises NodeFailed when the tip moves meanwhile.

        Reads the whole chain once, about a second for a thousand blocks, and after that what is new.
        """
        hashes = self._hashes()
        height, blocks = len(hashes), self._read(hashes)
        waiting = self.mempool()
        raws = self.batch("getrawtransaction", [(txid, 1) for txid in waiting])
        walk = _Walk()
        for number, transactions in enumerate(blocks, 1):
            walk.block(number, transactions)
        walk.mempool([cast("Mapping[str, object]", raw) for raw in raws])
        if self.height() != height or self.block_hash(height) != hashes[-1]:
            raise NodeFailed("a block came while the chain was read; read it again")
        return walk.books(height, hashes[-1], frozenset(waiting))

    def fees_sat(self, txids: Sequence[str]) -> dict[str, int]:
        """What each transaction paid to the miner, inputs less outputs; raises NodeFailed for one that is not there."""
        found = self._transactions_of(txids)
        before = self._transactions_of([str(item["txid"]) for txid in found for item in _inputs(found[txid])])
        return {
            txid: sum(
                _sat(_outputs(before[str(item["txid"])])[cast("int", item["vout"])]) for item in _inputs(transaction)
            )
            - sum(_sat(output) for output in _outputs(transaction))
            for txid, transaction in found.items()
        }

    def _hashes(self) -> list[str]:
        """Of the active blocks, from the first after the genesis block."""
        return cast("list[str]", self.batch("getblockhash", [(number,) for number in range(1, self.height() + 1)]))

    def _read(self, hashes: Sequence[str]) -> list[list[Mapping[str, object]]]:
        """The transactions of these blocks; a block with this hash never changes, so it is asked for once."""
        new = [item for item in hashes if item not in self._known]
        for found, block in zip(new, self.batch("getblock", [(item, 2) for item in new]), strict=True):
            self._known[found] = _transactions(block)
        return [self._known[item] for item in hashes]

    # The wire.

    def call(self, method: str, *arguments: object) -> object:
        """One JSON-RPC call; raises NodeFailed."""
        (result,) = self.batch(method, [arguments])
        return result

    def batch(self, method: str, calls: Sequence[Sequence[object]]) -> list[object]:
        """The same call with many arguments, in few requests; results in the same order."""
        results: list[object] = []
        for start in range(0, len(calls), _BATCH):
            part = calls[start : start + _BATCH]
            answers = self._post(
                method,
                [
                    {"jsonrpc": "2.0", "id": index, "method": method, "params": list(item)}
                    for index, item in enumerate(part)
                ],
            )
            for answer in answers:
                if answer.get("error"):
                    words = cast("Mapping[str, object]", answer["error"]).get("message")
                    raise NodeFailed(f"btcd refused {method!r}: {words}")
            ordered = sorted(answers, key=lambda answer: cast("int", answer["id"]))
            results += [answer.get("result") for answer in ordered]
        return results

    def _post(
        self, method: str, calls: Sequence[Mapping[str, object]], limit_s: float = _REPLY_S
    ) -> list[Mapping[str, object]]:
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        text = b""
        try:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=limit_s, context=self._tls())
            try:
                connection.request("POST", "/", json.dumps(calls), headers)
                text = connection.getresponse().read()
            finally:
                connection.close()
            answers = json.loads(text, parse_float=Decimal)
        except (OSError, http.client.HTTPException) as error:
            raise NodeFailed(f"btcd does not answer {method!r} on port {self.port}: {error}") from error
        except ValueError as error:
            raise NodeFailed(f"btcd answered {method!r} with {text[:200]!r}") from error
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise NodeFailed(f"btcd answered {method!r} with {text[:200]!r}")
        return answers

    # Private.

    def _transactions_of(self, txids: Sequence[str]) -> dict[str, Mapping[str, object]]:
        wanted = sorted(set(txids))
        answers = self.batch("getrawtransaction", [(txid, 1) for txid in wanted])
        return dict(zip(wanted, cast("list[Mapping[str, object]]", answers), strict=True))

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self.folder / "rpc.cert"))
        return self._context

    def _coinbases(self, needed_sat: int) -> tuple[list[tuple[str, int, int]], int]:
        inputs: list[tuple[str, int, int]] = []
        found = 0
        height = self.height()
        number = self._next_coinbase
        while found < needed_sat:
            if number > height - MATURITY:
                raise NodeFailed(f"the miner cannot pay {needed_sat} sat more; mine more blocks first")
            block = cast("Mapping[str, object]", self.call("getblock", self.block_hash(number), 1))
            txid = cast("list[str]", block["tx"])[0]
            output = self.call("gettxout", txid, 0, True)
            if output is not None:
                value = round(cast("Mapping[str, Decimal]", output)["value"] * SAT_PER_BTC)
                inputs.append((txid, 0, value))
                found += value
            number += 1
        self._next_coinbase = number
        return inputs, found

    def _unsigned(self, inputs: Sequence[tuple[str, int, int]], outputs: Sequence[tuple[str, int]]) -> bytes:
        scripts = [self._script(address) for address, _ in outputs]
        parts = [(2).to_bytes(4, "little"), _count(len(inputs))]
        for txid, index, _ in inputs:
            parts += [bytes.fromhex(txid)[::-1], index.to_bytes(4, "little"), b"\x00", b"\xff\xff\xff\xff"]
        parts.append(_count(len(outputs)))
        for (_, amount), script in zip(outputs, scripts, strict=True):
            parts += [amount.to_bytes(8, "little"), _count(len(script)), script]
        return b"".join(parts) + bytes(4)

    def _script(self, address: str) -> bytes:
        found = cast("Mapping[str, object]", self.call("validateaddress", address))
        program = bytes.fromhex(str(found.get("witness_program", "")))
        # btcd says yes to the addresses of other chains, too.
        if not address.startswith("bcrt1") or not found.get("isvalid") or not program:
            raise NodeFailed(f"{address!r} is no SegWit address of this regtest chain; nothing was paid")
        version = cast("int", found["witness_version"])
        return bytes([0x50 + version if version else 0, len(program)]) + program  # BIP 141: OP_0, or OP_1 and above


def subsidy_sat(height: int) -> int:
    """What a regtest block may create: 50 BTC, halved every 150 blocks (btcd: chaincfg.RegressionNetParams)."""
    return _FIRST_SUBSIDY_SAT >> (height // _HALVING)


def chain_options(*, port: int, user: str, password: str) -> list[str]:
    """The lines of btcd.conf: regtest, loopback, no peers."""
    return [
        "[Application Options]",
        "regtest=1",
        "txindex=1",
        f"rpclisten=127.0.0.1:{port}",
        f"rpcuser={user}",
        f"rpcpass={password}",
        "rpccert=rpc.cert",
        "rpckey=rpc.key",
        "datadir=data",
        "logdir=logs",
        f"miningaddr={MINER_ADDRESS}",
        "nolisten=1",
        "nodnsseed=1",
        "nobanning=1",
        "nostalldetect=1",
        "norelaypriority=1",
        "rpcmaxwebsockets=500",
        "rpcmaxclients=100",
        "blockmaxweight=3996000",
        "debuglevel=info",
    ]


def new_certificate() -> tuple[str, str]:
    """A certificate for btcd and its key (PEM), for ten years, as it would make one itself, but of curve P-256.

    btcd takes P-521, whose handshake costs both ends some milliseconds, and there is one for every call.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "btcd of a test network")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


def new_password() -> str:
    """A password for one run."""
    return secrets.token_hex(16)


def _count(number: int) -> bytes:
    return bytes([number]) if number < 0xFD else b"\xfd" + number.to_bytes(2, "little")


def _with_true_witness(raw: bytes, inputs: int) -> str:
    """The transaction with, for each input, the witness that OP_TRUE asks for: the script alone (BIP 141, BIP 144)."""
    return (raw[:4] + b"\x00\x01" + raw[4:-4] + b"\x01\x01\x51" * inputs + raw[-4:]).hex()


def _spends_true(transaction: Mapping[str, object]) -> bool:
    inputs = cast("list[Mapping[str, object]]", transaction["vin"])
    return inputs[0].get("txinwitness") == ["51"]


def _transactions(block: object) -> list[Mapping[str, object]]:
    found = cast("Mapping[str, object]", block)
    return cast("list[Mapping[str, object]]", found.get("tx") or found["rawtx"])


def _inputs(transaction: Mapping[str, object]) -> list[Mapping[str, object]]:
    return cast("list[Mapping[str, object]]", transaction["vin"])


def _outputs(transaction: Mapping[str, object]) -> list[Mapping[str, object]]:
    return cast("list[Mapping[str, object]]", transaction["vout"])


def _sat(output: Mapping[str, object]) -> int:
    return round(Decimal(str(output["value"])) * SAT_PER_BTC)


def _is_miner(output: Mapping[str, object]) -> bool:
    script = cast("Mapping[str, object]", output["scriptPubKey"])
    return script.get("hex") == "00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260"


class _Walk:
    """Takes transactions in the order of the chain and keeps what is unspent."""

    def __init__(self) -> None:
        self._coins: dict[str, Coin] = {}
        self._spent_by: dict[str, str] = {}
        self._values: dict[str, int] = {}
        self._inputs: dict[str, tuple[str, ...]] = {}
        self._outputs: dict[str, tuple[str, ...]] = {}
        self._minted = self._unclaimed = self._node_fees = self._waiting_fees = 0

    def block(self, height: int, transactions: Sequence[Mapping[str, object]]) -> None:
        coinbase, *others = transactions
        claimed = sum(self._make(coinbase))
        fees = 0
        for transaction in others:
            fee, by_node = self._take(transaction)
            fees += fee
            self._node_fees += fee if by_node else 0
        self._minted += subsidy_sat(height)
        self._unclaimed += subsidy_sat(height) + fees - claimed

    def mempool(self, transactions: Sequence[Mapping[str, object]]) -> None:
        """Parents before children, in whatever order they come."""
        waiting = list(transactions)
        while waiting:
            known = [item for item in waiting if all(point in self._values for point in _spends(item))]
            if not known:
                raise NodeFailed("a transaction in the mempool spends nothing that is known; read the chain again")
            for transaction in known:
                self._waiting_fees += self._take(transaction)[0]
            waiting = [item for item in waiting if item not in known]

    def books(self, height: int, tip: str, mempool: frozenset[str]) -> ChainBooks:
        return ChainBooks(
            height=height,
            tip=tip,
            mempool=mempool,
            minted_sat=self._minted,
            unclaimed_sat=self._unclaimed,
            node_fees_sat=self._node_fees,
            waiting_fees_sat=self._waiting_fees,
            coins=self._coins,
            spent_by=self._spent_by,
            values=self._values,
            inputs=self._inputs,
            outputs=self._outputs,
        )

    def _make(self, transaction: Mapping[str, object]) -> list[int]:
        txid = str(transaction["txid"])
        made = []
        for output in _outputs(transaction):
            point = f"{txid}:{output['n']}"
            sat = _sat(output)
            made.append(sat)
            self._values[point] = sat
            if sat:  # the witness commitment of a coinbase has no value
                self._coins[point] = Coin(txid, sat, _is_miner(output))
        return made

    def _take(self, transaction: Mapping[str, object]) -> tuple[int, bool]:
        """Its fee, and whether a node paid it."""
        txid = str(transaction["txid"])
        points = _spends(transaction)
        by_node = False
        for point in points:
            by_node = by_node or not self._coins[point].is_miner
            del self._coins[point]
            self._spent_by[point] = txid
        self._inputs[txid] = points
        self._outputs[txid] = tuple(f"{txid}:{output['n']}" for output in _outputs(transaction))
        return sum(self._values[point] for point in points) - sum(self._make(transaction)), by_node


def _spends(transaction: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"{item['txid']}:{item['vout']}" for item in cast("list[Mapping[str, object]]", transaction["vin"]))
