"""What opening a station would do, said before anything is opened.

Whoever is about to put power on a van reads this first: which twin shows which face, which device is metal, whose
watchdog stands behind the bench, where keys come from, and whether somebody has to say yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bench.station.address import TwinAddress
from bench.station.checks import is_metal
from bench.station.model import ChargerDevice, Device, DevicePart, LightningSettlement
from bench.station.payment_network import account_nodes, session_network
from ledgers.lightning.nodes.build import built_programs
from ledgers.lightning.nodes.plan import ChannelPlan, NodePlan
from ledgers.tariff import load_tariff

if TYPE_CHECKING:
    from bench.station import Station

PLAN_SCHEMA = "v2gbench.station_plan/1.0"


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One thing that opening a station would do."""

    # clock, twin, csms, device, limit, ledger, settlement (over Lightning with node, channel, programs), keys, runs,
    # energise
    part: str
    name: str
    text: str  # a line for people
    facts: Mapping[str, str | float | bool | None] = field(default_factory=dict)  # the same for programs


def make_plan(station: Station) -> list[PlanLine]:
    """The lines of a station's plan, in the order in which things would happen."""
    return [
        _plan_clock(station),
        *(_plan_twin(station, name) for name in station.twins),
        *_plan_csms(station),
        *(_plan_device(station, name, device) for name, device in station.devices.items()),
        *(_plan_limit(station, key) for key in station.limits.given()),
        PlanLine("ledger", station.ledger.kind, "in the run folder", {"kind": station.ledger.kind}),
        *_plan_settlement(station),
        _plan_keys(station),
        PlanLine("runs", "folder", str(station.runs_folder), {"folder": str(station.runs_folder)}),
        _plan_energise(station),
    ]


def plan_text(plan: Sequence[PlanLine]) -> str:
    """A plan for people: one line each, in columns."""
    part_width = max(len(line.part) for line in plan)
    name_width = max(len(line.name) for line in plan)
    return "\n".join(f"{line.part:{part_width}}  {line.name:{name_width}}  {line.text}" for line in plan)


def plan_document(station: Station) -> dict[str, object]:
    """A plan for programs, ready for JSON."""
    return {
        "schema": PLAN_SCHEMA,
        "station": station.name,
        "file": str(station.path),
        "sha256": station.sha256,
        "any_metal": station.any_metal,
        "plan": [{"part": line.part, "name": line.name, "text": line.text, **line.facts} for line in station.plan()],
    }


def _plan_clock(station: Station) -> PlanLine:
    start = datetime.fromtimestamp(station.start_utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    stepped = station.clock == "stepped"
    text = f"simulated time from {start}" if stepped else "real time"
    return PlanLine(
        "clock",
        station.clock,
        f"{text}, a cycle each {station.cycle_s:g} s",
        {"start_utc": start if stepped else None, "cycle_s": station.cycle_s},
    )


def _plan_twin(station: Station, name: str) -> PlanLine:
    twin = station.twins[name]
    used = {
        device.address.face: device_name
        for device_name, device in station.devices.items()
        if isinstance(device.address, TwinAddress) and device.address.twin == name
    }
    faces = ", ".join(used) or "no face"
    links = ", ".join(f"{key} {getattr(twin, key)}" for key in type(twin).links)
    point = next((f"charge point {point}" for point, other in station.charge_points().items() if other == name), "")
    fault = getattr(twin, "fault", None)
    planted = "" if fault is None else f"planted fault: {fault.kind}"
    text = "; ".join(filter(None, [f"{twin.kind} listens with {faces}" if used else twin.kind, links, point, planted]))
    return PlanLine(
        "twin",
        name,
        text,
        {
            "kind": twin.kind,
            "faces": ", ".join(used),
            "charge_point": point.removeprefix("charge point ") or None,
            "fault": None if fault is None else fault.kind,
        },
    )


def _plan_csms(station: Station) -> list[PlanLine]:
    csms = station.csms
    if csms is None:
        return []
    secret = "" if csms.password is None else f", password from {csms.password.reference}"
    return [
        PlanLine(
            "csms",
            f"OCPP {csms.ocpp}",
            f"listens on {csms.listen}, security {csms.security}{secret}",
            {"listen": csms.listen, "security": csms.security},
        )
    ]


def _plan_device(station: Station, name: str, device: Device) -> PlanLine:
    assert isinstance(device, DevicePart)
    metal = is_metal(station, name)
    watchdog = ""
    facts: dict[str, str | float | bool | None] = {
        "role": device.role,
        "driver": device.driver,
        "at": str(device.address),
        "metal": metal,
        "poll_s": station.poll_s(name),
        "reply_s": device.reply_s,
        "serial": device.serial,
    }
    if isinstance(device, ChargerDevice):
        armed_s = station.watchdog_s(name)
        facts |= {"watchdog_s": armed_s, "profile": device.profile, "charge_point": station.charge_point_of(name)}
        watchdog = "NO WATCHDOG" if armed_s is None else f"its watchdog armed at {armed_s:g} s"
    profile = getattr(device, "profile", None)
    driver = f"{device.driver} ({profile})" if profile else device.driver
    text = "; ".join(
        filter(
            None,
            [
                f"{'METAL' if metal else 'twin'} {device.role} by {driver} at {device.address}",
                f"read each {station.poll_s(name):g} s",
                watchdog,
                f"serial {device.serial} expected" if device.serial else "",
            ],
        )
    )
    return PlanLine("device", name, text, facts)


def _plan_limit(station: Station, key: str) -> PlanLine:
    limit = station.limits.given()[key]
    bands = [
        "" if limit.warn is None else f"warns from {limit.warn:g} {limit.unit} up",
        "" if limit.warn_below is None else f"warns from {limit.warn_below:g} {limit.unit} down",
    ]
    text = "; ".join(filter(None, [limit.inequality(key), *bands]))
    return PlanLine(
        "limit",
        key,
        text,
        {"min": limit.min, "max": limit.max, "warn": limit.warn, "warn_below": limit.warn_below, "unit": limit.unit},
    )


def _plan_settlement(station: Station) -> list[PlanLine]:
    part, tariff = station.settlement, str(station.tariff_path)
    if not isinstance(part, LightningSettlement):
        return [PlanLine("settlement", part.kind, f"by tariff {tariff}", {"kind": part.kind, "tariff": tariff})]
    text = f"by tariff {tariff}, mode {part.mode}; 1 BTC is {part.rate.eur_per_btc} EUR ({part.rate.source})"
    facts: dict[str, str | float | bool | None] = {
        "kind": part.kind,
        "tariff": tariff,
        "mode": part.mode,
        "eur_per_btc": part.rate.eur_per_btc,
        "rate_source": part.rate.source,
    }
    parties = load_tariff(station.tariff_path)
    accounts = {node: account for account, node in account_nodes(parties).items()}
    plan = session_network(parties)
    return [
        PlanLine("settlement", part.kind, text, facts),
        *(_plan_node(node, accounts.get(node.name)) for node in plan.nodes),
        *(_plan_channel(channel) for channel in plan.channels),
        _plan_programs(),
    ]


def _plan_node(node: NodePlan, account: str | None) -> PlanLine:
    policy = node.policy
    does = (
        f"has the money of {account}"
        if account is not None
        else f"forwards, for {policy.base_fee_msat} msat and {policy.fee_rate_ppm} ppm a payment"
    )
    return PlanLine(
        "node",
        node.name,
        f"lnd on a private regtest chain; {does}",
        {"account": account, "base_fee_msat": policy.base_fee_msat, "fee_rate_ppm": policy.fee_rate_ppm},
    )


def _plan_channel(channel: ChannelPlan) -> PlanLine:
    return PlanLine(
        "channel",
        f"{channel.opener}-{channel.peer}",
        f"{channel.capacity_sat} sat, opened by {channel.opener}; {channel.push_sat} sat of it begin at {channel.peer}",
        {
            "opener": channel.opener,
            "peer": channel.peer,
            "capacity_sat": channel.capacity_sat,
            "peer_begins_sat": channel.push_sat,
        },
    )


def _plan_programs() -> PlanLine:
    built = built_programs()
    text = (
        "are not built yet: the first session builds them, some minutes; or beforehand: v2gbench nodes build"
        if built is None
        else f"are built, in {built.folder}"
    )
    return PlanLine(
        "programs",
        "lnd, btcd",
        text,
        {"built": built is not None, "folder": None if built is None else str(built.folder)},
    )


def _plan_keys(station: Station) -> PlanLine:
    folder = station.keys_folder
    if folder is None:
        return PlanLine(
            "keys", "seed", f"made from seed {station.seed}; they prove nothing but integrity", {"folder": None}
        )
    present = len(list(folder.glob("*.pem"))) if folder.is_dir() else 0
    text = f"{folder} ({present} found)" if present else f"{folder} (none found; run 'v2gbench init')"
    return PlanLine("keys", "files", text, {"folder": str(folder), "found": present})


def _plan_energise(station: Station) -> PlanLine:
    if not station.any_metal:
        return PlanLine("energise", "emulated", "no real power flows", {"needs_consent": False})
    return PlanLine(
        "energise",
        "METAL",
        f"real power may flow through {', '.join(station.metal)}: needs --energise, or an operator's yes",
        {"needs_consent": True},
    )
