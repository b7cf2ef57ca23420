"""What the groups of a station file must say together, judged before anything is opened.

A model judges one group of keys; here stand the rules between groups: that a name refers to something, that a driver
fits its role and its wire, that a limit has a device that measures it, that emulated shortcuts (a stepped clock, keys
from a seed) end where metal begins. Each rule yields the key path of the fault and one sentence with the remedy, so
that a file with five faults is told all five at once.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from bench.assets import asset, list_assets
from bench.station.address import OcppAddress, TwinAddress
from bench.station.model import ChargerDevice, ChargerTwin, LightningSettlement, StationModel, VehicleTwin
from bench.station.payment_network import session_network
from drivers.charger.profile import load_profile
from drivers.errors import ConfigError
from ledgers.channels import CONTRACT_ROLE, load_channels
from ledgers.errors import RecordError
from ledgers.lightning.pricing import SMALLEST_PAYMENT_MSAT, Rate
from ledgers.tariff import Tariff, load_tariff
from twins.pack.parameters import resolve_pack

LOG_KEY_NAME = "log"
ROLES = ("charger", "vehicle", "power_meter")


class Finding(NamedTuple):
    """One contradiction: where it shows, and one sentence with the remedy."""

    key_path: tuple[str | int, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Wires:
    """What a driver of ours can be pointed at: faces of twins, and schemes of metal."""

    faces: tuple[str, ...]
    schemes: tuple[str, ...]


# Drivers of other distributions (found by entry point) are not in this table; their wire is theirs to judge.
WIRES: Mapping[tuple[str, str], Wires] = {
    ("charger", "modbus"): Wires(("modbus",), ("tcp",)),
    ("charger", "ocpp"): Wires(("ocpp",), ("ocpp",)),
    ("vehicle", "elm327"): Wires(("elm327",), ("tcp", "serial")),
    ("vehicle", "uds"): Wires(("can",), ("can",)),
    ("power_meter", "yokogawa_wt"): Wires(("scpi",), ("visa", "tcp")),
}

# Which roles can measure what a limit guards: power, SOC and pack voltage the charger has too.
_MEASURED_BY: Mapping[str, tuple[str, ...]] = {
    "power_w": ("charger", "power_meter"),
    "pack_temperature_c": ("vehicle",),
    "soc_percent": ("vehicle", "charger"),
    "cell_voltage_v": ("vehicle",),
    "pack_voltage_v": ("vehicle", "charger"),
}


def registered_drivers() -> dict[str, tuple[str, ...]]:
    """The driver words of each role, from the entry points `v2gbench.<role>` of all installed distributions."""
    found = importlib.metadata.entry_points()
    return {role: tuple(sorted({entry.name for entry in found.select(group=f"v2gbench.{role}")})) for role in ROLES}


def is_metal(station: StationModel, device: str) -> bool:
    """Whether this device is real: its address is neither a twin's face nor the charge point of a twin."""
    address = station.devices[device].address
    if isinstance(address, OcppAddress):
        return address.charge_point not in charge_points(station)
    return not isinstance(address, TwinAddress)


def charge_points(station: StationModel) -> dict[str, str]:
    """The twins that dial in to the central system: charge point id -> name of the charger twin."""
    return {twin.charge_point or name: name for name, twin in station.twins.items() if isinstance(twin, ChargerTwin)}


def resolve_tariff(tariff: str, folder: Path) -> Path:
    """The tariff file: beside the station file (in `folder`) or, failing that, one that comes with the bench."""
    path = folder / Path(tariff).expanduser()
    if path.is_file():
        return path
    try:
        return asset(tariff)
    except ConfigError:
        raise ConfigError(
            f"there is no tariff {tariff!r} in {folder}, and those that come with the bench are "
            f"{', '.join(list_assets('tariffs')) or 'none'}; correct the path"
        ) from None


def check(station: StationModel, folder: Path) -> list[Finding]:
    """All that the groups of a station file contradict each other in; empty when it can be opened.

    `folder` is where the station file lies, from which relative paths start.
    """
    rules = (
        _time(station),
        _twin_links(station),
        _drivers(station),
        _addresses(station),
        _crew(station),
        _signers(station),
        _charger(station),
        _central_system(station),
        _limits(station),
        _keys(station, folder),
        _packs(station, folder),
        _tariff(station, folder),
    )
    return [finding for rule in rules for finding in rule]


def _time(station: StationModel) -> Iterator[Finding]:
    if station.clock == "wall":
        if station.start_utc is not None:
            yield Finding(
                ("start_utc",), "this is the start of simulated time and contradicts 'clock: wall'; take it away"
            )
    else:
        for name in station.devices:
            if is_metal(station, name):
                yield Finding(
                    ("devices", name, "at"),
                    f"{station.devices[name].at} is metal, which does not live in simulated time; write 'clock: wall'",
                )
    if station.twins and station.seed is None:
        yield Finding(("twins",), "twins draw their errors from a seed, and there is none; add a line like 'seed: 7'")
    for name, device in station.devices.items():
        if device.poll_s is not None and device.poll_s < station.cycle_s:
            yield Finding(
                ("devices", name, "poll_s"),
                f"the device cannot be read more often than the cycle turns; cycle_s <= poll_s must hold, "
                f"that is {station.cycle_s:g} <= poll_s",
            )


def _twin_links(station: StationModel) -> Iterator[Finding]:
    parked: dict[str, str] = {}
    for name, twin in station.twins.items():
        for key, family in type(twin).links.items():
            other = str(getattr(twin, key))
            wanted = [found for found, value in station.twins.items() if value.kind.startswith(f"{family}.")]
            if other not in station.twins:
                yield Finding(
                    ("twins", name, key), f"there is no twin {other!r}; {_choose(other, wanted, f'{family} twin')}"
                )
            elif other not in wanted:
                kind = station.twins[other].kind
                yield Finding(
                    ("twins", name, key),
                    f"twin {other!r} is a {kind}, and a {family} is needed; {_choose(other, wanted, f'{family} twin')}",
                )
            elif key == "vehicle" and other in parked:
                yield Finding(
                    ("twins", name, key),
                    f"{other!r} is parked at charger {parked[other]!r} already; give each charger a vehicle of its own",
                )
            elif key == "vehicle":
                parked[other] = name


def _drivers(station: StationModel) -> Iterator[Finding]:
    registered = registered_drivers()
    for name, device in station.devices.items():
        where = ("devices", name)
        if device.driver not in registered[device.role]:
            yield Finding((*where, "driver"), _unknown_driver(device.driver, device.role, registered))
            continue
        wires = WIRES.get((device.role, device.driver))
        if wires is None:
            continue
        address = device.address
        if isinstance(address, TwinAddress):
            if address.face in {face for twin in station.twins.values() for face in twin.faces} - set(wires.faces):
                yield Finding(
                    (*where, "at"),
                    f"driver {device.driver} does not speak {address.face!r}; point it at a face "
                    f"{_or(wires.faces)}, or choose another driver",
                )
        elif address.scheme not in wires.schemes:
            yield Finding(
                (*where, "at"),
                f"driver {device.driver} does not work over {address.scheme}; write twin:<twin>/{wires.faces[0]} or "
                f"an address that begins with {_or(wires.schemes)}",
            )
        if isinstance(device, ChargerDevice):
            yield from _modbus_keys(name, device)


def _modbus_keys(name: str, device: ChargerDevice) -> Iterator[Finding]:
    if device.driver == "modbus" and device.profile is None:
        yield Finding(
            ("devices", name),
            "driver modbus needs a register map; add 'profile: sunspec_der' or that of the make",
        )
    elif device.driver == "modbus":
        try:
            load_profile(str(device.profile))
        except ConfigError as error:
            yield Finding(("devices", name, "profile"), str(error))
    if device.driver == "ocpp":
        for key in ("profile", "charge_point"):
            if key in device.model_fields_set:
                yield Finding(("devices", name, key), f"driver ocpp has no use for {key}; take it away")


def _addresses(station: StationModel) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    dialling_in = charge_points(station)
    for name, device in station.devices.items():
        where = ("devices", name, "at")
        address = device.address
        if isinstance(address, TwinAddress):
            twin = station.twins.get(address.twin)
            if twin is None:
                fitting = [other for other, value in station.twins.items() if address.face in value.faces]
                yield Finding(where, f"there is no twin {address.twin!r}; {_choose(address.twin, fitting, 'twin')}")
                continue
            if address.face not in twin.faces:
                faces = f"its faces are {', '.join(twin.faces)}" if twin.faces else "it has no face at all"
                yield Finding(where, f"twin {address.twin!r} ({twin.kind}) has no face {address.face!r}; {faces}")
                continue
        same = str(address).lower()
        if isinstance(address, OcppAddress) and address.charge_point in dialling_in:
            same = f"twin:{dialling_in[address.charge_point]}/ocpp"
        if same in seen:
            yield Finding(where, f"device {seen[same]!r} has this address already; one wire carries one device")
        seen.setdefault(same, name)


def _crew(station: StationModel) -> Iterator[Finding]:
    count: Counter[str] = Counter(device.role for device in station.devices.values())
    if count["charger"] == 0:
        yield Finding(("devices",), "a station needs a charger; add a device with 'role: charger'")
    for role in ROLES:
        if count[role] > 1:
            names = [name for name, device in station.devices.items() if device.role == role]
            yield Finding(
                ("devices", names[-1], "role"),
                f"{_and(names)} are all {role}, and a station has one; leave the others to stations of their own",
            )


def _signers(station: StationModel) -> Iterator[Finding]:
    """Keys are found by name, so two signers of one name would be one: a witness could sign for its opponent."""
    parties = {*load_channels().roles, LOG_KEY_NAME, CONTRACT_ROLE}
    if station.name in parties:
        yield Finding(("name",), f"{station.name!r} is a party of the ledger and signs by that name; choose another")
    for name in station.devices:
        if name in parties:
            yield Finding(("devices", name), f"{name!r} is a party of the ledger and signs by that name; rename this")
        if name == station.name:
            yield Finding(("devices", name), "the station itself signs by this name; rename one of the two")


def _charger(station: StationModel) -> Iterator[Finding]:
    for name, device in station.devices.items():
        if not isinstance(device, ChargerDevice):
            continue
        if is_metal(station, name) and device.watchdog_s is None and device.watchdog is None:
            yield Finding(
                ("devices", name),
                "a metal charger needs its own watchdog, in case the bench falls silent; add 'watchdog_s: 10', or say "
                "'watchdog: none' if it has none",
            )
        if device.watchdog_s is not None and device.watchdog_s < 2 * station.cycle_s:
            yield Finding(
                ("devices", name, "watchdog_s"),
                f"the watchdog would trip between two cycles; 2 * cycle_s <= watchdog_s must hold, "
                f"that is {2 * station.cycle_s:g} <= watchdog_s",
            )


def _central_system(station: StationModel) -> Iterator[Finding]:
    ids = Counter(twin.charge_point or name for name, twin in station.twins.items() if isinstance(twin, ChargerTwin))
    for name, twin in station.twins.items():
        if isinstance(twin, ChargerTwin) and ids[twin.charge_point or name] > 1:
            yield Finding(
                ("twins", name, "charge_point"),
                f"another charger twin dials in as {twin.charge_point or name!r} too; give each an id of its own",
            )
    if station.csms is not None:
        return
    for name, device in station.devices.items():
        needs = isinstance(device.address, OcppAddress) or getattr(device.address, "face", "") == "ocpp"
        if needs or (isinstance(device, ChargerDevice) and device.charge_point is not None):
            yield Finding(
                ("devices", name, "at" if needs else "charge_point"),
                "a charge point dials in to a central system, and the station has none; add "
                "'csms: {ocpp: \"1.6\", listen: 127.0.0.1:0, security: none}'",
            )


def _limits(station: StationModel) -> Iterator[Finding]:
    roles = {device.role for device in station.devices.values()}
    for key in station.limits.given():
        if roles.isdisjoint(_MEASURED_BY[key]):
            yield Finding(
                ("limits", key),
                f"no device of this station measures it, so it would never trip; add a device of role "
                f"{_or(_MEASURED_BY[key])}, or take the limit away",
            )


def _keys(station: StationModel, folder: Path) -> Iterator[Finding]:
    if station.keys is None:
        return
    if station.keys.kind == "seed":
        metal = [name for name in station.devices if is_metal(station, name)]
        if metal:
            yield Finding(
                ("keys", "kind"),
                f"keys from a seed prove nothing about metal, and {_and(metal)} {'is' if len(metal) == 1 else 'are'} "
                f"metal; run 'v2gbench init' and name its key folder here",
            )
        elif station.seed is None:
            yield Finding(("keys", "kind"), "there is no seed to make keys from; add a line like 'seed: 7'")
    if station.keys.folder is not None:
        keys = (folder / Path(station.keys.folder).expanduser()).resolve()
        runs = Path(station.runs).expanduser().resolve()
        if keys == runs or runs in keys.parents:
            yield Finding(
                ("keys", "folder"),
                f"keys may not lie in the folder of runs, which is handed on ({runs}); choose another folder",
            )


def _packs(station: StationModel, folder: Path) -> Iterator[Finding]:
    """The battery of each vehicle twin can be read."""
    for name, part in station.twins.items():
        if isinstance(part, VehicleTwin) and part.pack is not None:
            try:
                resolve_pack(part.pack, folder)
            except ConfigError as error:
                yield Finding(("twins", name, "pack"), str(error))


def _tariff(station: StationModel, folder: Path) -> Iterator[Finding]:
    """The tariff can be read, and what a Lightning station pays by it is neither dust nor more than channels carry."""
    part = station.settlement
    try:
        tariff = load_tariff(resolve_tariff(part.tariff, folder))
    except (ConfigError, RecordError) as error:
        yield Finding(("settlement", "tariff"), str(error))
        return
    if isinstance(part, LightningSettlement):
        yield from _amounts(part, tariff)


def _amounts(part: LightningSettlement, tariff: Tariff) -> Iterator[Finding]:
    """Neither too thin nor too thick: judged by the dearest and the cheapest energy that is not free."""
    rate = Rate(part.rate.eur_per_btc, part.rate.source)
    prices = [rate.msat(price.exact_micro(Fraction(1))) for price in (tariff.import_energy, tariff.v2g_energy)]
    for_money = [msat_per_wh for msat_per_wh in prices if msat_per_wh > 0]
    if not for_money:
        return
    most_msat = 1000 * min(channel.push_sat for channel in session_network(tariff).channels)
    most_wh = math.floor(most_msat / max(for_money))
    if most_wh < 1:
        yield Finding(
            ("settlement", "rate", "eur_per_btc"),
            f"at this rate 1 Wh of tariff {tariff.name!r} is worth {math.floor(max(for_money))} msat, and the channels "
            f"of a session carry {most_msat} msat; state a higher rate or a lower price",
        )
    elif part.slice_wh is not None:
        least_wh = math.ceil(SMALLEST_PAYMENT_MSAT / min(for_money))
        if part.slice_wh < least_wh:
            yield Finding(
                ("settlement", "slice_wh"),
                f"a slice of {part.slice_wh} Wh is worth {math.floor(part.slice_wh * min(for_money))} msat at tariff "
                f"{tariff.name!r} and this rate, and nothing below {SMALLEST_PAYMENT_MSAT} msat is paid; write "
                f"{least_wh} or more",
            )
        elif part.slice_wh > most_wh:
            yield Finding(
                ("settlement", "slice_wh"),
                f"a slice of {part.slice_wh} Wh is worth more than the {most_msat} msat that the channels of a session "
                f"carry; write {most_wh} or less",
            )


def _unknown_driver(word: str, role: str, registered: Mapping[str, Sequence[str]]) -> str:
    elsewhere = [other for other, words in registered.items() if word in words]
    if elsewhere:
        return f"driver {word!r} is for role {elsewhere[0]}, not {role}; {_choose(word, registered[role], 'driver')}"
    if not any(registered.values()):
        return "no driver at all is registered; install the bench with 'pip install v2gbench' (or 'pip install -e .')"
    return f"no driver {word!r} is installed for role {role}; {_choose(word, registered[role], 'driver')}"


def _choose(word: str, known: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose {_or(known)}" if known else f"add a {what}"


def _or(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
