"""`v2gbench nodes plan`: how many channels and how much capital a hub with vehicles and charging points needs.

Nothing is started. What a session costs at most is stated in msat, or as energies at the prices of a tariff file and a
rate. `--write` makes a network file that `v2gbench nodes up` takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from ruamel.yaml import YAML

from bench.commands.nodes import NETWORK_SCHEMA
from drivers.errors import ConfigError
from ledgers.lightning.nodes.plan import NetworkPlan, Policy
from ledgers.lightning.planning import HUB, CapitalPlan, SessionMoney, SpokeNeed
from ledgers.lightning.pricing import Rate
from ledgers.tariff import load_tariff


def session_money(
    *,
    import_msat: int | None,
    export_msat: int | None,
    import_wh: int | None,
    export_wh: int | None,
    tariff: Path | None,
    euro_per_btc: str | None,
) -> SessionMoney:
    """What one session moves at most, from amounts or from energies; raises ConfigError when it is not stated once."""
    if (import_msat is None) == (import_wh is None):
        raise ConfigError(
            "state what a session costs at most, once: --import-msat, or --import-wh with --tariff and --eur-per-btc"
        )
    if import_msat is not None:
        if export_wh is not None or tariff is not None or euro_per_btc is not None:
            raise ConfigError(
                "--import-msat goes with --export-msat; leave out --export-wh, --tariff and --eur-per-btc"
            )
        return SessionMoney(import_msat, export_msat or 0)
    if export_msat is not None:
        raise ConfigError("--import-wh goes with --export-wh; leave out --export-msat")
    if tariff is None or euro_per_btc is None:
        raise ConfigError("--import-wh needs the prices and the rate; add --tariff FILE and --eur-per-btc NUMBER")
    prices = load_tariff(tariff)
    return SessionMoney.of_energy(
        import_wh=import_wh or 0,
        import_price=prices.import_energy,
        export_wh=export_wh or 0,
        export_price=prices.v2g_energy,
        rate=Rate(euro_per_btc, "command line"),
    )


def fraction(text: str, option: str) -> Fraction:
    """A number like 0.25 or 1/4; raises ConfigError with the option's name."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{option} {text!r} is no number; write it like 0.25 or 1/4") from error


def text(plan: CapitalPlan) -> str:
    """The plan as tables for people; spokes that are alike share a line."""
    demand = plan.demand
    lines = [
        f"{demand.vehicles} vehicles, {demand.sessions_per_vehicle} sessions each until the channels are rebalanced",
        f"{demand.charging_points} charging points, up to {demand.sessions_at_a_point} sessions each",
        f"a session moves at most {_sat(demand.session.import_msat)} sat for import{_exports(plan)}",
        "",
        f"{'channels':<28}{'each':>5}{'capacity':>14}{'pushed':>12}{'opener sends':>14}{'peer sends':>14} sat",
        *(_channel_line(plan, group) for group in _groups(plan)),
        "",
        f"{'spokes':<28}{'sends':>14}{'can':>12}{'receives':>14}{'can':>12} sat, dry after",
        *(_spoke_line(group) for group in _groups(plan)),
        "",
        f"{len(plan.channels)} channels: {plan.hub_capital_sat} sat of the hub, {plan.spokes_capital_sat} of spokes",
        f"owed outside for what was pushed: {plan.pushed_sat} sat to the hub, {plan.pushed_to_hub_sat} sat by it",
        f"on the chain before: {plan.hub_on_chain_sat} sat of the hub, {plan.spokes_on_chain_sat} of the spokes",
        f"to open all at {demand.sat_per_vbyte} sat/vB: {plan.open_sat} sat",
        f"to close all: {plan.close_sat} sat, by force {plan.force_close_sat} sat",
        f"until the rebalancing the hub earns {_sat(plan.hub_earns_msat)} sat",
    ]
    return "\n".join(lines)


def write(path: Path, plan: CapitalPlan, *, seed: int) -> NetworkPlan:
    """Write the network file; its name is the file's. Raises ConfigError when there is a file or it cannot be made."""
    name = path.stem.lower()
    network = plan.network(name, seed=seed)
    document = {
        "schema": NETWORK_SCHEMA,
        "name": network.name,
        "seed": network.seed,
        "nodes": [
            {
                "name": node.name,
                **_policy(network, node.name),
                "on_chain_sat": node.on_chain_sat,
                "options": list(node.options),
            }
            for node in network.nodes
        ],
        "channels": [
            {
                "from": channel.opener,
                "to": channel.peer,
                "capacity_sat": channel.capacity_sat,
                "push_sat": channel.push_sat,
            }
            for channel in network.channels
        ],
    }
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel's stub says None
    try:
        with path.open("x", encoding="utf-8") as file:
            yaml.dump(document, file)
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; choose another name, or remove it") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return network


# Private --------------------------------------------------------------------------------------------------------------


def _sat(msat: int) -> str:
    whole, rest = divmod(msat, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)


def _exports(plan: CapitalPlan) -> str:
    demand = plan.demand
    if not demand.exports_per_vehicle:
        return ""
    payer = demand.export_payer.value.replace("_", " ")
    return (
        f", and in {demand.exports_per_vehicle} of a vehicle's sessions {_sat(demand.session.export_msat)} sat for "
        f"export, paid by the {payer}"
    )


def _channel_line(plan: CapitalPlan, group: Sequence[SpokeNeed]) -> str:
    channel = next(c for c in plan.channels if group[0].name in {c.opener, c.peer})
    ends = f"{HUB} to {_label(group)}" if channel.opener == HUB else f"{_label(group)} to {HUB}"
    return (
        f"{ends:<28}{group[0].channels:>5}{channel.capacity_sat:>14}{channel.push_sat:>12}"
        f"{_sat(channel.opener_can_send_msat):>14}{_sat(channel.peer_can_send_msat):>14}"
    )


def _spoke_line(group: Sequence[SpokeNeed]) -> str:
    spoke = group[0]
    dry = [
        f"{count} {what}"
        for count, what in ((spoke.out_until_dry, "paid"), (spoke.in_until_dry, "received"))
        if count is not None
    ]
    return (
        f"{_label(group):<28}{_sat(spoke.outbound_need_msat):>14}{_sat(spoke.outbound_msat):>12}"
        f"{_sat(spoke.inbound_need_msat):>14}{_sat(spoke.inbound_msat):>12} {' or '.join(dry)}"
    )


def _groups(plan: CapitalPlan) -> list[list[SpokeNeed]]:
    """Spokes that are alike but for their number, in the plan's order."""
    return [list(group) for _, group in itertools.groupby(plan.spokes, key=lambda spoke: spoke.name.rpartition("-")[0])]


def _label(group: Sequence[SpokeNeed]) -> str:
    first, last = group[0].name, group[-1].name
    return first if first == last else f"{first}..{last.rpartition('-')[2]}"


def _policy(network: NetworkPlan, name: str) -> dict[str, object]:
    policy = network.node(name).policy
    return {"policy": asdict(policy)} if policy != Policy() else {}
