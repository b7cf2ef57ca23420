"""The embedded ledger on real files: rights, receipts, proofs, and every way in which a disk can be wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledgers.canonical import from_canonical
from ledgers.contracts.monitoring import MonitoringInputs
from ledgers.contracts.remuneration import GridOrder
from ledgers.contracts.usage import UsageAnchor
from ledgers.embedded.frames import FrameFile
from ledgers.embedded.ledger import EmbeddedLedger
from ledgers.errors import AccessDenied, ContractRefused, LedgerBusy, LedgerCorrupt, LedgerError, RecordError
from ledgers.formats import tlog
from ledgers.formats.entry import Entry
from ledgers.identity import Identity, SeedKeys
from ledgers.ports import Member, Receipt

T0 = 1_618_236_501.0  # 2021-04-12T14:08:21Z
ORIGIN = "v2gbench.example/emulated"
KEYS = SeedKeys(seed=7, any_metal=False)
ROLES = (
    "ev_owner",
    "ev_manufacturer",
    "ev_driver",
    "insurance_company",
    "charging_station",
    "dso",
    "tso",
    "battery_owner",
    "aggregator",
)
CHANNELS = ("monitoring", "remuneration", "alarms")
PARTY = {role: KEYS.identity(f"the_{role}", role) for role in ROLES}
PHONE, STATION, AGGREGATOR = PARTY["ev_owner"], PARTY["charging_station"], PARTY["aggregator"]
SHA = "ab" * 32


def open_ledger(folder: Path, **options: Any) -> EmbeddedLedger:
    settings: dict[str, Any] = {
        "origin": ORIGIN,
        "log_key": tlog.emulated_log_key(KEYS, "log"),
        "contract_identity": KEYS.identity("contract", "contract"),
        "members": [Member.of(identity) for identity in PARTY.values()],
        "clock_utc_s": lambda: T0,
        **options,
    }
    return EmbeddedLedger(folder, **settings)


def report(at_s: float, **values: Any) -> str:
    known: dict[str, Any] = {"vehicle_id": "van", "source": "obd", "plug_state": 2, "gear": 1, "soc_percent": 55.0}
    return MonitoringInputs(**{**known, "utc_s": T0 + at_s, **values}).to_text()


def observe(ledger: EmbeddedLedger, at_s: float, identity: Identity = PHONE, **values: Any) -> Receipt:
    return ledger.submit("monitoring", "monitoring", "observe", report(at_s, **values), identity=identity)


def send_order(ledger: EmbeddedLedger, name: str, start: float, role: str = "dso") -> Receipt:
    new = GridOrder(
        order_id=name,
        vehicle_id="van",
        utc_s=T0,
        direction="load_decrease",
        start_utc_s=T0 + start,
        duration_s=600.0,
        ordered_power_w=5000.0,
    )
    return ledger.submit("remuneration", "remuneration", "order", new.to_text(), identity=PARTY[role])


def anchor(ledger: EmbeddedLedger, channel: str, identity: Identity, sha256: str = SHA) -> Receipt:
    document = UsageAnchor(session_id="s1", vehicle_id="van", record_sha256=sha256, utc_s=T0 + 7200)
    return ledger.submit(channel, channel, "usage", document.to_text(), identity=identity)


def whole_session(ledger: EmbeddedLedger) -> list[Receipt]:
    """Orders, reports with a V2G event and an alarm, and the anchors of the record."""
    return [
        send_order(ledger, "o1", 60),
        observe(ledger, 0, power_w=3000.0),
        observe(ledger, 60, power_w=-5000.0),
        observe(ledger, 120, power_w=-5000.0, ambient_c=31.0),
        observe(ledger, 660, power_w=0.0, ambient_c=25.0),
        anchor(ledger, "monitoring", STATION),
        anchor(ledger, "remuneration", AGGREGATOR),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def crash(ledger: EmbeddedLedger) -> None:
    """Drop the ledger as kill -9 does: handles go away, no last checkpoint is signed."""
    ledger._close_files()


# ------------------------------------------------------------------------------------------------- receipts and proofs


def test_a_session_is_spread_over_the_channels_and_every_entry_is_proven_to_strangers(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        receipts = whole_session(ledger)
        assert [receipt.channel for receipt in receipts] == ["remuneration", *["monitoring"] * 5, "remuneration"]
        # V2G begin on remuneration; alarm on alarms; V2G end and cleared alarm on both; the anchor on alarms.
        assert [[other.channel for other in receipt.derived] for receipt in receipts] == [
            [],
            [],
            ["remuneration"],
            ["alarms"],
            ["remuneration", "alarms"],
            ["alarms"],
            [],
        ]
        everything = [one for receipt in receipts for one in (receipt, *receipt.derived)]
        assert len(everything) == sum(ledger.size(channel) for channel in CHANNELS) == 12
        for receipt in everything:
            data = ledger.entry(receipt, PHONE)
            proof = ledger.prove(receipt)
            assert proof.origin == f"{ORIGIN}/{receipt.channel}"
            tlog.verify_proof(proof.text, data, proof.public_key_der, proof.origin)
            entry = Entry.parse(data)
            assert (entry.channel, entry.index, entry.tx_id) == (receipt.channel, receipt.index, receipt.tx_id)
            assert tlog.leaf_hash(data).hex() == receipt.leaf_hash


def test_the_anchored_record_is_named_on_all_three_channels(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        receipts = whole_session(ledger)
        anchors = [receipts[-2], *receipts[-2].derived, receipts[-1]]
        assert [receipt.channel for receipt in anchors] == ["monitoring", "alarms", "remuneration"]
        for receipt in anchors:
            assert Entry.parse(ledger.entry(receipt, PHONE)).anchored == {"s1": SHA}


def test_an_entry_names_its_submitter_and_a_derived_one_the_contract_without_the_arguments(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        receipt = observe(ledger, 0, ambient_c=31.0)
        own = Entry.parse(ledger.entry(receipt, PHONE))
        alarm = Entry.parse(ledger.entry(receipt.derived[0], PARTY["insurance_company"]))
    assert (own.by.name, own.by.role, own.args) == ("the_ev_owner", "ev_owner", (report(0, ambient_c=31.0),))
    assert (alarm.by.name, alarm.by.role, alarm.args) == ("contract", "contract", ())
    assert own.derived == {"alarms": (receipt.derived[0].leaf_hash,)}
    assert alarm.derived_from == ("monitoring", 0)
    assert own.utc == "2021-04-12T14:08:21.000Z"


@pytest.mark.parametrize("which", ["own", "derived"])
def test_every_changed_byte_of_an_entry_is_noticed_by_its_signature_or_form(tmp_path: Path, which: str) -> None:
    with open_ledger(tmp_path) as ledger:
        receipt = observe(ledger, 0, ambient_c=31.0)
        data = ledger.entry(receipt if which == "own" else receipt.derived[0], PHONE)
    # What the submitter did not sign of its own entry: where it landed and what the contract made of it.
    outside = ("index", "previous", "utc", "writes", "events", "derived", "contract")
    document = json.loads(data)
    accepted: list[str] = []
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            Entry.parse(changed)
        except LedgerError:
            continue
        differing = {name for name, value in json.loads(changed).items() if document.get(name) != value}
        accepted.extend(name for name in differing if which == "derived" or name not in outside)
    assert accepted == []


def test_the_same_transaction_again_gives_the_same_receipt_also_after_reopening(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        first = observe(ledger, 0, ambient_c=31.0)
        assert observe(ledger, 0, ambient_c=31.0) == first
    before = contents(tmp_path)
    with open_ledger(tmp_path) as ledger:
        assert observe(ledger, 0, ambient_c=31.0) == first
        assert ledger.size("monitoring") == 1
    assert contents(tmp_path) == before


def test_a_later_log_proves_that_it_continues_the_earlier_one(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        for number in range(5):
            observe(ledger, number * 60.0)
        key = ledger.prove(observe(ledger, 400)).public_key_der
        old = tlog.open_checkpoint(ledger.checkpoint("monitoring"), origin=f"{ORIGIN}/monitoring", public_key_der=key)
        for number in range(8):
            observe(ledger, 500 + number)
        new = tlog.open_checkpoint(ledger.checkpoint("monitoring"), origin=f"{ORIGIN}/monitoring", public_key_der=key)
        hashes = ledger.consistency_proof("monitoring", old.size)
    assert (old.size, new.size) == (6, 14)
    tlog.verify_consistency(old_size=6, old_root=old.root, size=14, root=new.root, hashes=hashes)


def test_a_receipt_of_another_ledger_is_refused(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "a") as ledger:
        foreign = observe(ledger, 0)
    with open_ledger(tmp_path / "b") as ledger:
        with pytest.raises(RecordError, match="gave no receipt"):
            ledger.prove(foreign)
        observe(ledger, 1)
        with pytest.raises(RecordError, match="gave no receipt"):
            ledger.prove(foreign)


def test_two_ledgers_with_one_seed_are_equal_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with open_ledger(tmp_path / name) as ledger:
            whole_session(ledger)
            ledger.prove(observe(ledger, 1000))
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert set(first) == {"lock", *(f"{c}.{kind}" for c in CHANNELS for kind in ("log", "checkpoint"))}
    assert first == second


def test_reopening_changes_no_byte_and_keeps_state(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        whole_session(ledger)
        state = ledger.evaluate("monitoring", "monitoring", "vehicle", '{"vehicle_id":"van"}', identity=PHONE)
    before = contents(tmp_path)
    with open_ledger(tmp_path) as ledger:
        again = ledger.evaluate("monitoring", "monitoring", "vehicle", '{"vehicle_id":"van"}', identity=PHONE)
    assert again == state
    assert contents(tmp_path) == before


# --------------------------------------------------------------------------------------------------------- who may what


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("role", ROLES)
def test_read_rights_hold_in_every_way_of_reading(tmp_path: Path, role: str, channel: str) -> None:
    table_1 = {
        "monitoring": set(ROLES) - {"insurance_company"},
        "remuneration": {"ev_owner", "ev_driver", "dso", "tso", "aggregator"},
        "alarms": {"ev_owner", "ev_manufacturer", "ev_driver", "insurance_company", "battery_owner"},
    }
    with open_ledger(tmp_path, fsync=False) as ledger:
        receipts = whole_session(ledger)
        receipt = next(r for own in receipts for r in (own, *own.derived) if r.channel == channel)
        reader = PARTY[role]
        ways: list[Callable[[], object]] = [
            lambda: ledger.evaluate(channel, channel, "usage", '{"session_id":"s1"}', identity=reader),
            lambda: list(ledger.events(channel, 0, reader)),
            lambda: ledger.entry(receipt, reader),
        ]
        for way in ways:
            if role in table_1[channel]:
                assert way()
            else:
                with pytest.raises(AccessDenied, match=f"may not read channel '{channel}'"):
                    way()


@pytest.mark.parametrize("role", ROLES)
def test_only_the_stated_parties_write(tmp_path: Path, role: str) -> None:
    def tries(ledger: EmbeddedLedger) -> dict[str, Callable[[], Receipt]]:
        return {
            "observe": lambda: observe(ledger, 0, PARTY[role]),
            "usage": lambda: anchor(ledger, "monitoring", PARTY[role]),
            "paid": lambda: anchor(ledger, "remuneration", PARTY[role]),
            "order": lambda: send_order(ledger, "o1", 60, role),
            "alarm": lambda: ledger.submit("alarms", "alarms", "alarm", "{}", identity=PARTY[role]),
        }

    allowed = {
        "ev_owner": {"observe"},
        "charging_station": {"observe", "usage"},
        "aggregator": {"paid"},
        "dso": {"order"},
        "tso": {"order"},
    }
    with open_ledger(tmp_path, fsync=False) as ledger:
        for name, attempt in tries(ledger).items():
            if name in allowed.get(role, set()):
                attempt()
            else:
                with pytest.raises(AccessDenied, match="may not call"):
                    attempt()


def test_an_impostor_is_refused_by_its_key_and_role(tmp_path: Path) -> None:
    forged = SeedKeys(seed=8, any_metal=False).identity(PHONE.name, PHONE.role)
    promoted = Identity(PARTY["insurance_company"].name, "ev_owner", PARTY["insurance_company"].private_key)
    stranger = KEYS.identity("stranger", "ev_owner")
    with open_ledger(tmp_path) as ledger:
        for impostor, reason in ((forged, "but the ledger knows"), (promoted, "but the"), (stranger, "not a member")):
            with pytest.raises(AccessDenied, match=reason):
                observe(ledger, 0, impostor)
            with pytest.raises(AccessDenied, match=reason):
                ledger.events("monitoring", 0, impostor)
        assert ledger.size("monitoring") == 0


def test_members_need_a_role_of_table_1_and_the_contract_its_own(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="the stakeholders are ev_owner"):
        open_ledger(tmp_path, members=[Member.of(KEYS.identity("x", "contract"))])
    with pytest.raises(AccessDenied, match="not 'contract'"):
        open_ledger(tmp_path, contract_identity=PHONE)


@pytest.mark.parametrize(
    ("channel", "function", "role", "document", "reason"),
    [
        ("remuneration", "order", "dso", {"soc_percent": 55}, "battery_soc, which Table 2 does not put"),
        ("monitoring", "observe", "ev_owner", {"baseline_power_w": 1}, "charging_baseline, which Table 2 does not put"),
        ("monitoring", "observe", "ev_owner", {"vin": "x"}, "has no data type"),
        ("monitoring", "observe", "ev_owner", {"gear": 1}, "Field required"),
    ],
)
def test_data_that_may_not_stand_on_a_channel_is_refused_and_nothing_is_written(
    tmp_path: Path, channel: str, function: str, role: str, document: dict[str, object], reason: str
) -> None:
    with open_ledger(tmp_path) as ledger:
        text = json.dumps(document, separators=(",", ":"))
        with pytest.raises(ContractRefused, match=reason):
            ledger.submit(channel, channel, function, text, identity=PARTY[role])
        assert [ledger.size(name) for name in CHANNELS] == [0, 0, 0]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ((), "takes one JSON document"),
        (("{}", "{}"), "takes one JSON document"),
        (("[]",), "not a JSON object"),
        (('{"a": 1}',), "canonical form"),
        (("{",), "is not JSON"),
        (("\ud800",), "surrogates"),
    ],
)
def test_arguments_have_one_spelling(tmp_path: Path, args: tuple[str, ...], reason: str) -> None:
    with open_ledger(tmp_path) as ledger, pytest.raises(ContractRefused, match=reason):
        ledger.submit("monitoring", "monitoring", "observe", *args, identity=PHONE)


def test_unknown_words_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        with pytest.raises(AccessDenied, match="there are monitoring, remuneration, alarms"):
            ledger.submit("gossip", "monitoring", "observe", "{}", identity=PHONE)
        with pytest.raises(ContractRefused, match="there are monitoring, remuneration, alarms"):
            ledger.evaluate("monitoring", "gossip", "vehicle", "{}", identity=PHONE)
        with pytest.raises(ContractRefused, match="lives on channel 'alarms'"):
            ledger.evaluate("monitoring", "alarms", "alarms", "{}", identity=PHONE)
        with pytest.raises(ContractRefused, match="it has vehicle, usage"):
            ledger.evaluate("monitoring", "monitoring", "price", "{}", identity=PHONE)


def test_events_start_where_asked_and_end_with_the_call(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        whole_session(ledger)
        insurer = PARTY["insurance_company"]
        found = list(ledger.events("alarms", 0, insurer))
        assert [event.name for event in found] == ["alarm_raised", "alarm_cleared", "usage_anchored"]
        assert found[0].payload["alarm"] == "ambient_temperature_high"
        assert ledger.entry(found[0].receipt, insurer)
        later = ledger.events("alarms", 2, insurer)
        observe(ledger, 2000, ambient_c=33.0)
        assert [(event.index, event.name) for event in later] == [(2, "usage_anchored")]


def test_many_threads_submit_without_losing_or_mixing_entries(tmp_path: Path) -> None:
    with open_ledger(tmp_path, fsync=False) as ledger:

        def send(vehicle: int) -> None:
            for number in range(10):
                observe(ledger, number, vehicle_id=f"van{vehicle}", ambient_c=31.0)

        threads = [threading.Thread(target=send, args=(vehicle,)) for vehicle in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (ledger.size("monitoring"), ledger.size("alarms")) == (40, 4)
    with open_ledger(tmp_path) as ledger:
        assert ledger.size("monitoring") == 40


# -------------------------------------------------------------------------------------------------- crashes and damage


def test_opened_twice_is_busy(tmp_path: Path) -> None:
    with open_ledger(tmp_path), pytest.raises(LedgerBusy, match="open in another place"):
        open_ledger(tmp_path)
    with open_ledger(tmp_path) as ledger:
        observe(ledger, 0)
    with pytest.raises(LedgerBusy, match="is closed"):
        observe(ledger, 1)
    ledger.close()


def test_a_file_cut_at_every_byte_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    documents = [b'{"a":1}\n', b'{"b":"' + b"x" * 90 + b'"}\n', b'{"c":3}\n']
    with FrameFile(path) as file:
        file.append(documents)
    data = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(data) if byte == 0x0A]
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends)
        with FrameFile(path) as file:
            assert [file.read(index) for index in range(len(file))] == documents[:whole]
            assert file.torn_bytes == size - ([0, *ends][whole])
            file.append(documents[whole:])
        assert path.read_bytes() == data


def test_a_file_with_any_byte_changed_is_refused_with_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    with FrameFile(path) as file:
        file.append([b'{"a":1}\n', b'{"b":2}\n'])
    data = path.read_bytes()
    half = len(data) // 2
    for position in range(len(data)):
        for mask in (0x01, 0x04, 0x80, data[position] ^ 0x0A):
            if mask == 0:
                continue
            path.write_bytes(data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :])
            with pytest.raises(LedgerCorrupt, match=rf"some\.log entry {position // half} "):
                FrameFile(path)


def test_a_crash_anywhere_in_a_transaction_over_three_files_keeps_what_was_committed(tmp_path: Path) -> None:
    """The last transaction writes on three channels; each prefix of what it wrote is a possible crash."""
    origin = tmp_path / "origin"
    ledger = open_ledger(origin, fsync=False)
    observe(ledger, 0, power_w=-5000.0, ambient_c=31.0)
    before = {channel: (origin / f"{channel}.log").stat().st_size for channel in CHANNELS}
    observe(ledger, 60, power_w=0.0, ambient_c=25.0)
    crash(ledger)
    # The order of writing: remuneration, alarms, and monitoring as the commit.
    order = ("remuneration", "alarms", "monitoring")
    whole = {channel: (origin / f"{channel}.log").read_bytes() for channel in CHANNELS}
    crashes = []
    for position, channel in enumerate(order):
        start, end = before[channel], len(whole[channel])
        for size in {start, *range(start, end, 97), start + 64, end - 1, end}:
            sizes = {name: len(whole[name]) if order.index(name) < position else before[name] for name in order}
            crashes.append({**sizes, channel: size})
    folder = tmp_path / "crashed"
    folder.mkdir()
    committed = [sizes for sizes in crashes if sizes["monitoring"] == len(whole["monitoring"])]
    assert len(committed) == 1
    for sizes in crashes:
        shutil.rmtree(folder)
        folder.mkdir()
        for channel, size in sizes.items():
            (folder / f"{channel}.log").write_bytes(whole[channel][:size])
        expected = 2 if sizes in committed else 1
        again = open_ledger(folder, fsync=False)
        assert [again.size(channel) for channel in order] == [expected] * 3, sizes
        unfinished = sum(sizes[name] > before[name] for name in order) if expected == 1 else 0
        assert len(again.recovered) == unfinished
        receipt = observe(again, 60, power_w=0.0, ambient_c=25.0)  # sent again, as its sender would
        assert (receipt.index, len(receipt.derived)) == (1, 2)
        crash(again)
        assert {channel: (folder / f"{channel}.log").read_bytes() for channel in CHANNELS} == whole


def test_after_a_signed_checkpoint_no_byte_may_be_missing(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "whole") as ledger:
        observe(ledger, 0)
        observe(ledger, 60)
    data = (tmp_path / "whole" / "monitoring.log").read_bytes()
    for size in [0, 100, len(data) // 2, *range(len(data) - 40, len(data))]:
        folder = tmp_path / "short"
        shutil.copytree(tmp_path / "whole", folder)
        (folder / "monitoring.log").write_bytes(data[:size])
        with pytest.raises(LedgerCorrupt, match=r"monitoring\.log has [01] entries, but 2 were signed"):
            open_ledger(folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("closed", [True, False], ids=["checkpointed", "crashed"])
def test_a_flipped_byte_anywhere_names_file_and_entry(tmp_path: Path, *, closed: bool) -> None:
    whole = tmp_path / "whole"
    ledger = open_ledger(whole, fsync=False)
    for number in range(3):
        observe(ledger, number * 60.0)
    if closed:
        ledger.close()
    else:
        crash(ledger)
    path = whole / "monitoring.log"
    data = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(data) if byte == 0x0A]
    for position in [*range(0, len(data), 97), *(end - 1 for end in ends), 64, len(data) - 2]:
        entry = next(number for number, end in enumerate(ends) if position < end)
        for mask in (0x01, 0x80):
            path.write_bytes(data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :])
            with pytest.raises(LedgerCorrupt, match=rf"monitoring\.log entry {entry} "):
                open_ledger(whole)
    path.write_bytes(data)
    with open_ledger(whole) as again:
        assert again.size("monitoring") == 3


def edited(folder: Path, channel: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Rewrite a channel's file with right line hashes, as somebody with an editor and this source would."""
    path = folder / f"{channel}.log"
    documents = change([line[65:] + b"\n" for line in path.read_bytes().splitlines()])
    path.unlink()
    with FrameFile(path) as file:
        file.append(documents)


def test_history_rewritten_with_right_line_hashes_is_noticed(tmp_path: Path) -> None:
    def warmer(documents: list[bytes]) -> list[bytes]:
        return [document.replace(b'\\"soc_percent\\":55', b'\\"soc_percent\\":56') for document in documents]

    def swapped(documents: list[bytes]) -> list[bytes]:
        return [documents[1], documents[0], *documents[2:]]

    def dropped(documents: list[bytes]) -> list[bytes]:
        return documents[1:]

    cases = [
        (warmer, True, "are not those that were signed"),
        (warmer, False, r"entry 0: the transaction's name is not the hash"),
        (swapped, False, "entry 0 belongs to another place"),
        (dropped, False, "entry 0 belongs to another place"),
        (dropped, True, "has 2 entries, but 3 were signed"),
    ]
    for number, (change, checkpointed, reason) in enumerate(cases):
        folder = tmp_path / str(number)
        ledger = open_ledger(folder)
        for at_s in (0, 60, 120):
            observe(ledger, at_s)
        if checkpointed:
            ledger.close()
        else:
            crash(ledger)
        edited(folder, "monitoring", change)
        with pytest.raises(LedgerCorrupt, match=reason):
            open_ledger(folder)


def test_an_alarm_that_vanished_is_missed(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    observe(ledger, 0, ambient_c=31.0)
    crash(ledger)
    (tmp_path / "alarms.log").write_bytes(b"")
    with pytest.raises(LedgerCorrupt, match=r"alarms\.log has lost an entry that entry 0 of channel 'monitoring'"):
        open_ledger(tmp_path)


def test_an_alarm_that_nobody_raised_is_refused(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    observe(ledger, 0, ambient_c=31.0)
    observe(ledger, 60, ambient_c=25.0)
    crash(ledger)

    def orphan(documents: list[bytes]) -> list[bytes]:
        return [documents[0]]

    edited(tmp_path, "monitoring", orphan)
    # Entry 1 of alarms is as a crash before the commit leaves it: cut. A checkpoint over it makes it damage.
    shutil.copytree(tmp_path, tmp_path / "signed")
    with open_ledger(tmp_path) as again:
        assert (again.size("monitoring"), again.size("alarms")) == (1, 1)
    other = open_ledger(tmp_path / "elsewhere")
    observe(other, 0, ambient_c=31.0)
    observe(other, 60, ambient_c=25.0)
    other.close()
    shutil.copy(tmp_path / "elsewhere" / "alarms.checkpoint", tmp_path / "signed" / "alarms.checkpoint")
    with pytest.raises(LedgerCorrupt, match=r"alarms\.log entry 1 names entry 1 of channel 'monitoring'"):
        open_ledger(tmp_path / "signed")


def test_a_checkpoint_of_another_key_or_damaged_is_refused(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        observe(ledger, 0)
    stranger = tlog.emulated_log_key(SeedKeys(seed=8, any_metal=False), "log")
    with pytest.raises(LedgerCorrupt, match=r"monitoring\.checkpoint: the note is signed by"):
        open_ledger(tmp_path, log_key=stranger)
    path = tmp_path / "monitoring.checkpoint"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LedgerCorrupt, match=r"monitoring\.checkpoint"):
        open_ledger(tmp_path)
    path.write_bytes(b"\xff")
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        open_ledger(tmp_path)


PROGRAM = """
import sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from test_ledgers_embedded import observe, open_ledger
ledger = open_ledger(Path(sys.argv[1]))
number = ledger.size("monitoring")
while True:
    # Every report raises or clears an alarm and begins or ends a V2G event: three files each time.
    hot = number % 2 == 0
    receipt = observe(ledger, number, power_w=-5000.0 if hot else 0.0, ambient_c=31.0 if hot else 20.0)
    sys.stdout.write(f"{receipt.index} {receipt.leaf_hash}\\n")
    sys.stdout.flush()
    number += 1
"""


@pytest.mark.slow
def test_kill_9_loses_no_receipt(tmp_path: Path) -> None:
    folder, seen = tmp_path / "ledger", 0
    for attempt in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        lines: list[str] = []
        try:
            lines.extend(child.stdout.readline() for _ in range(5 + 3 * attempt))
        finally:
            os.kill(child.pid, signal.SIGKILL)
            rest, _ = child.communicate(timeout=30)
        complete = [line for line in "".join([*lines, rest]).split("\n")[:-1] if len(line.split()) == 2]
        assert complete, "the program made no receipt"
        with open_ledger(folder) as ledger:
            for line in complete:
                index, leaf = line.split()
                receipt = Receipt("monitoring", int(index), "", leaf, int(index) + 1)
                ledger.entry(receipt, PHONE)  # raises when the ledger does not hold exactly this entry
            count = ledger.size("monitoring")
            assert (ledger.size("remuneration"), ledger.size("alarms")) == (count, count)
            assert count in {seen + len(complete), seen + len(complete) + 1}
            seen = count


FULL_DISK = """
import resource, sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from ledgers.errors import LedgerBusy
from test_ledgers_embedded import observe, open_ledger, CHANNELS
ledger = open_ledger(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
number = 0
while True:
    try:
        observe(ledger, number, ambient_c=31.0 if number % 2 == 0 else 20.0)
    except LedgerBusy as error:
        assert "make room and send it again" in str(error), error
        break
    number += 1
sizes = [ledger.size(channel) for channel in CHANNELS]
for channel in CHANNELS:
    data = Path(sys.argv[1], f"{channel}.log").read_bytes()
    assert data.count(b"\\n") == ledger.size(channel), "a whole line was left behind"
    assert data == b"" or data.endswith(b"\\n"), "half a line was left behind"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
observe(ledger, number, ambient_c=31.0 if number % 2 == 0 else 20.0)
ledger.close()
print(number, *sizes)
"""


@pytest.mark.parametrize("limit", [9000, 10000])
def test_a_full_disk_takes_the_whole_transaction_back_and_it_can_be_sent_again(tmp_path: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent), str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    number, monitoring, remuneration, alarms = map(int, done.stdout.split())
    assert (monitoring, remuneration, alarms) == (number, 0, number)
    with open_ledger(tmp_path) as ledger:
        assert (ledger.size("monitoring"), ledger.size("alarms")) == (number + 1, number + 1)


def test_entries_are_canonical_json_that_other_tools_read(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        whole_session(ledger)
    for channel in CHANNELS:
        for line in (tmp_path / f"{channel}.log").read_text(encoding="utf-8").splitlines():
            leaf, _, document = line.partition(" ")
            from_canonical(document.encode() + b"\n", where="line")
            assert json.loads(document)["schema"] == "v2gbench.ledger-entry/1.0"
            assert tlog.leaf_hash(document.encode() + b"\n").hex() == leaf
