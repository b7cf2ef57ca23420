"""The command line: `v2gbench`. Everything heavy is imported inside the command that needs it, so that help is instant.

Exit codes: 0 pass, 1 fail, 2 bad input, 3 aborted by a limit, 130 stopped by a signal. Errors of the bench are one
sentence on standard error; `--json` prints one JSON object on standard output and nothing else there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn

import typer

PASS, FAIL, BAD_INPUT, TRIPPED, STOPPED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="v2gbench",
    help="Hardware-in-the-loop test bench and digital twin for vehicle-to-grid.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
station_app = typer.Typer(help="Station files: check, plan, read, schema.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(station_app, name="station")
nodes_app = typer.Typer(
    help="Lightning nodes on a private regtest chain: build, up, down, status, plan, rebalance.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(nodes_app, name="nodes")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ExportPayerChoice = Literal["charging_point", "aggregator", "hub"]
SettlementChoice = Literal["embedded", "lightning"]
RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Folder for run folders; the station file's by default.")
]
NetworkName = Annotated[str, typer.Argument(help="Name of the network, as in its file.")]
EnergiseOption = Annotated[
    bool, typer.Option("--energise", help="Let real power flow through the metal devices of the station.")
]


def main() -> NoReturn:
    """Run the command line; console script `v2gbench` and `python -m v2gbench`."""
    signal.signal(signal.SIGTERM, _terminated)
    logging.getLogger("pymodbus").addHandler(
        logging.NullHandler()
    )  # what it has to say, the driver says in one sentence
    from drivers.errors import BenchError, InterlockTripped
    from ledgers.errors import LedgerError
    from reports.errors import ReportError

    try:
        code = app(standalone_mode=False)
    except InterlockTripped as error:
        _complain(str(error))
        sys.exit(TRIPPED)
    except (BenchError, LedgerError, ReportError) as error:
        _complain(str(error))
        sys.exit(BAD_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        code = STOPPED
    except Exception as error:
        show = getattr(error, "show", None)  # usage errors of the command line know how to print themselves
        if show is None:
            raise
        show()
        sys.exit(BAD_INPUT)
    if code == STOPPED:  # typer turns Ctrl-C into this code, and says nothing
        _complain(
            "stopped before the end; a charger that a run was driving is in its safe state, and that run is closed"
        )
    sys.exit(code if isinstance(code, int) else PASS)


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    """Turn SIGTERM into the way out of Ctrl-C: through every `with` block, and so through the safe state."""
    raise KeyboardInterrupt


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"v2gbench {version('v2gbench')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hardware-in-the-loop test bench and digital twin for vehicle-to-grid."""
    del version


@app.command()
def demo(
    *,
    minutes: Annotated[
        float, typer.Option(min=5, max=24 * 60, help="Length of the session in simulated minutes.")
    ] = 60,
    station: Annotated[Path | None, typer.Option(help="Station file; the emulated one by default.")] = None,
    settlement: Annotated[
        SettlementChoice | None,
        typer.Option(help="Who keeps the money: accounts in the run folder, or real Lightning nodes on regtest."),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one V2G session at the emulated station over real protocols, certify it, and write a report."""
    from bench.assets import asset
    from bench.commands.progress import ready_the_pack, session_progress
    from bench.pipeline import run_certified
    from bench.session import demo_plan
    from bench.settlement import ready_the_nodes
    from bench.station import load_station
    from drivers.errors import ConfigError

    shipped = "stations/emulated-lightning.yaml" if settlement == "lightning" else "stations/emulated.yaml"
    loaded = load_station(station or asset(shipped))
    if settlement is not None and loaded.settlement.kind != settlement:
        raise ConfigError(
            f"{station} says 'settlement: {{kind: {loaded.settlement.kind}}}', which '--settlement {settlement}' "
            "contradicts; leave out one of the two"
        )
    ready_the_pack(show=not as_json)
    ready_the_nodes(loaded)
    with session_progress(f"V2G session of {minutes:g} min at station {loaded.name!r}", show=not as_json) as progress:
        run = run_certified(loaded, demo_plan(60.0 * minutes), runs=runs, progress=progress)
    summary = run.summary()
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        from bench.commands.progress import print_summary

        print_summary(summary)
    if run.tripped:
        raise typer.Exit(TRIPPED)
    raise typer.Exit(PASS if run.certified.verdict == "PASS" else FAIL)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where the station file goes.")] = Path(),
    *,
    metal: Annotated[bool, typer.Option("--metal", help="Start from the example of real devices.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the station; the folder's by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a commented station file and make random keys for everybody who signs."""
    from bench.commands.init import init_station

    result = init_station(folder, metal=metal, name=name)
    document = {
        "station": str(result.station_path),
        "station_made": result.station_made,
        "name": result.station_name,
        "keys_folder": str(result.keys.folder),
        "keys_made": [path.name for path in result.keys.made],
        "keys_kept": [path.name for path in result.keys.kept],
    }

    def text() -> None:
        typer.echo(f"{'wrote' if result.station_made else 'kept'} {result.station_path}")
        typer.echo(f"{len(result.keys.made)} keys made, {len(result.keys.kept)} kept in {result.keys.folder}")
        typer.echo(f"next: v2gbench station plan {result.station_path}")

    _tell(document, text, as_json=as_json)


@station_app.command("check")
def station_check(file: Annotated[Path, typer.Argument(help="Station file.")], *, as_json: JsonOption = False) -> None:
    """Say whether a station file is right, or what in it is wrong and how to mend it; opens nothing."""
    from bench.station import load_station

    station = load_station(file)
    _tell(
        {"station": str(file), "name": station.name, "sha256": station.sha256, "metal": list(station.metal)},
        lambda: typer.echo(f"{file}: station {station.name!r} is right"),
        as_json=as_json,
    )


@station_app.command("schema")
def station_schema_command() -> None:
    """Print the JSON schema of station files."""
    from bench.station import station_schema

    typer.echo(json.dumps(station_schema(), indent=2, ensure_ascii=False))


@station_app.command("plan")
def station_plan(file: Annotated[Path, typer.Argument(help="Station file.")], *, as_json: JsonOption = False) -> None:
    """Print what would be opened, in order; opens nothing."""
    from bench.station import load_station, plan_document, plan_text

    station = load_station(file)
    _tell(plan_document(station), lambda: typer.echo(plan_text(station.plan())), as_json=as_json)


@station_app.command("read")
def station_read(file: Annotated[Path, typer.Argument(help="Station file.")], *, as_json: JsonOption = False) -> None:
    """Read every device once; writes nothing to any of them and moves no power."""
    from bench.commands.look import look
    from bench.station import load_station

    found = look(load_station(file))
    _tell(found.document(), lambda: typer.echo(found.text()), as_json=as_json)
    if not found.complete:
        raise typer.Exit(FAIL)


@app.command()
def run(
    plan: Annotated[Path, typer.Argument(help="Robot Framework plan.")],
    *,
    station: Annotated[Path | None, typer.Option(help="Station file; the emulated one by default.")] = None,
    runs: RunsOption = None,
    energise: EnergiseOption = False,
    answers: Annotated[Path | None, typer.Option(help="Answers for the operator's questions.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a plan; exit code 0 pass, 1 fail, 2 bad input, 3 aborted by a limit."""
    from bench.commands.progress import ready_the_pack
    from bench.plans.runner import run_plan

    ready_the_pack(show=not as_json)
    result = run_plan(plan, station=station, runs=runs, energise=energise, answers=answers, live=not as_json)
    _tell(result.document(), lambda: typer.echo(result.text()), as_json=as_json)
    raise typer.Exit(result.exit_code)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Run folder.")],
    *,
    csv: Annotated[Path | None, typer.Option(help="Write all readings to this CSV file, too.")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="CSV with a column per quantity instead of a row each.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Render the report of a run again, from what was recorded; export its readings."""
    from drivers.errors import ConfigError
    from reports.html import write_report
    from reports.run import Run

    if wide and csv is None:
        raise ConfigError("--wide shapes the CSV file; name it with --csv FILE")
    written = {"report": str(write_report(folder))}
    if csv is not None:
        with Run.open(folder) as opened:
            opened.export_csv(csv, wide=wide)
        written["csv"] = str(csv)
    _tell(written, lambda: typer.echo("\n".join(written.values())), as_json=as_json)


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="certificate.json of one or more runs.")],
    *,
    trust: Annotated[Path | None, typer.Option(help="Trust file: whose signatures count.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check certificates offline, a line per check; exit code 0 only when all of them hold."""
    from ledgers.verify import verify_certificate

    verdicts = {str(file): verify_certificate(file, trust) for file in files}

    def text() -> None:
        for file, verdict in verdicts.items():
            typer.echo(file)
            for line in verdict.lines:
                typer.echo(f"  {line}")

    _tell({file: verdict.to_json() for file, verdict in verdicts.items()}, text, as_json=as_json)
    raise typer.Exit(PASS if all(verdict.ok for verdict in verdicts.values()) else FAIL)


@app.command()
def replay(
    log: Annotated[Path, typer.Argument(help="Leaf Spy CSV or CAN log (TSV, CRTD, text, SavvyCAN CSV, candump).")],
    *,
    dialect: Annotated[str | None, typer.Option(help="Read it as this dialect instead of looking at it.")] = None,
    station: Annotated[Path | None, typer.Option(help="Station file for names and keys; emulated by default.")] = None,
    twin: Annotated[bool, typer.Option("--twin", help="Drive the pack twin by it, and compare the two.")] = False,
    pack: Annotated[
        str | None, typer.Option(help="Shipped pack or pack file for --twin; the one that fits by default.")
    ] = None,
    temperature_unit: Annotated[
        str, typer.Option(help="With --twin: C, F or auto, for columns that name no unit.")
    ] = "auto",
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a recording of a real vehicle, feed the contract, and write a usage record and a report."""
    from drivers.errors import ConfigError

    if twin:
        from bench.commands.progress import ready_the_pack
        from bench.commands.replay_twin import replay_log_on_twin

        if dialect is not None or station is not None:
            raise ConfigError("--dialect and --station do not go with --twin, which writes no record; leave them out")
        ready_the_pack(show=not as_json)
        compared = replay_log_on_twin(log, pack=pack, temperature_unit=temperature_unit, runs=runs)
        _tell(compared.document(), lambda: typer.echo(compared.text()), as_json=as_json)
        return
    if pack is not None or temperature_unit != "auto":
        raise ConfigError("--pack and --temperature-unit go with --twin; add it, or leave them out")
    from bench.commands.replay import replay_log

    result = replay_log(log, dialect=dialect, station=station, runs=runs, show=not as_json)
    _tell(result.document(), lambda: typer.echo(result.text()), as_json=as_json)


@app.command()
def fit(
    logs: Annotated[list[Path], typer.Argument(help="Leaf Spy CSVs or CAN logs of one car.")],
    *,
    pack: Annotated[str | None, typer.Option(help="Shipped pack or pack file; by default the one that fits.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the fitted pack file here.")] = None,
    temperature_unit: Annotated[str, typer.Option(help="Of columns that name none: C, F or auto.")] = "auto",
    law: Annotated[str | None, typer.Option(help="Aging law to scale; the pack's own by default.")] = None,
    in_service: Annotated[str | None, typer.Option(help="Day of first use, YYYY-MM-DD: fits the aging scales.")] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a pack to logs of one car: parameters with uncertainty, what is not identified, and a pack file."""
    from bench.commands.fit import fit_logs

    result = fit_logs(
        logs, pack=pack, out=out, temperature_unit=temperature_unit, law=law, in_service=in_service, runs=runs
    )
    _tell(result.document(), lambda: typer.echo(result.text()), as_json=as_json)


@app.command()
def age(
    scenario: Annotated[Path, typer.Argument(help="Scenario file, or the name of a shipped one (favignana_van).")],
    *,
    years: Annotated[
        int | None, typer.Option(min=1, max=30, help="Whole years to simulate; the file's by default.")
    ] = None,
    laws: Annotated[
        str | None, typer.Option(help="Laws of aging, with commas; the first ages the pack. All by default.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate years of use with and without V2G: wear, its causes and cost, warranty, second life."""
    from bench.commands.age import age_scenario
    from bench.commands.progress import ready_the_pack

    ready_the_pack(show=not as_json)
    names = None if laws is None else [name.strip() for name in laws.split(",") if name.strip()]
    result = age_scenario(scenario, years=years, runs=runs, laws=names, show=not as_json)
    _tell(result.document(), lambda: typer.echo(result.text()), as_json=as_json)


@app.command()
def twin(
    kind: Annotated[str, typer.Argument(help="charger, van, analyzer, or site for all of them.")],
    *,
    listen: Annotated[
        str,
        typer.Option(help="host:port, port 0 for any free one, a site takes consecutive ones; a van: pty, can://can0."),
    ] = "127.0.0.1:0",
    station: Annotated[Path | None, typer.Option(help="Station file for its parameters.")] = None,
    csms: Annotated[str | None, typer.Option(help="ws:// address of an OCPP central system to dial in to.")] = None,
    plugged: Annotated[bool, typer.Option("--plugged", help="Begin with the cable in the van.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop by itself after so long.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a twin alone on the wall clock, for other people's clients; Ctrl-C ends it."""
    from bench.commands.twin import serve_twin

    serve_twin(
        kind,
        listen=listen,
        station=station,
        csms=csms,
        plugged=plugged,
        seconds=seconds,
        as_json=as_json,
        say=typer.echo,
    )


@app.command()
def csms(
    *,
    listen: Annotated[str, typer.Option(help="host:port; port 0 takes any free one.")] = "127.0.0.1:9000",
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop by itself after so long.")] = None,
) -> None:
    """Run the OCPP 1.6 central system alone and print what charge points say; Ctrl-C ends it."""
    import threading

    from services.csms.console import serve

    until = threading.Event()
    if seconds is not None:
        timer = threading.Timer(seconds, until.set)
        timer.daemon = True
        timer.start()
    serve(listen, typer.echo, until=until)


@nodes_app.command("build")
def nodes_build(
    *,
    again: Annotated[bool, typer.Option("--again", help="Build them even when they are there.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Packages compiled at once; Go decides by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build lnd and btcd from their Go modules, once on a machine: about five minutes on two cores."""
    from bench.commands.nodes import build

    built = build(show=not as_json, again=again, jobs=jobs)
    _tell(built.document(), lambda: typer.echo(built.text()), as_json=as_json)


@nodes_app.command("up")
def nodes_up(
    file: Annotated[Path | None, typer.Argument(help="Network file; by default a hub with a van and an evse.")] = None,
    *,
    background: Annotated[bool, typer.Option("--background", help="Come back when it is ready.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End it by itself after so long.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a network and keep it until Ctrl-C or `nodes down`; builds the programs where they are missing."""
    from bench.commands.nodes import load_network, status, up
    from drivers.errors import ConfigError

    if as_json and not background:
        raise ConfigError("--json goes with --background, which comes back when the network is ready; add it")
    try:
        up(file, background=background, seconds=seconds, show=not as_json, say=_silent if as_json else typer.echo)
    except KeyboardInterrupt:
        typer.echo("the network has ended", err=True)
        return
    if as_json:
        typer.echo(json.dumps(status(load_network(file).name).to_json(), indent=2))


@nodes_app.command("down")
def nodes_down(name: NetworkName = "yard", *, as_json: JsonOption = False) -> None:
    """End a network that runs, and wait until all of its processes are gone."""
    from bench.commands.nodes import down, networks

    down(name)
    left = networks()
    _tell({"ended": name, "running": left}, lambda: typer.echo(f"network {name!r} has ended"), as_json=as_json)


@nodes_app.command("plan")
def nodes_plan(
    *,
    vehicles: Annotated[int, typer.Option(help="How many vehicles.")],
    stations: Annotated[int, typer.Option(help="How many charging points.")],
    sessions: Annotated[int, typer.Option(help="Sessions of a vehicle between two rebalancings.")],
    sessions_per_station: Annotated[
        int | None, typer.Option(help="The most sessions at one charging point; spread evenly by default.")
    ] = None,
    import_msat: Annotated[int | None, typer.Option(help="What a session's import costs at most, in msat.")] = None,
    export_msat: Annotated[int | None, typer.Option(help="What its export is worth at most, in msat.")] = None,
    import_wh: Annotated[int | None, typer.Option(help="Instead: the most energy a session imports.")] = None,
    export_wh: Annotated[int | None, typer.Option(help="Instead: the most energy a session exports.")] = None,
    tariff: Annotated[Path | None, typer.Option(help="Tariff file with the prices of these energies.")] = None,
    eur_per_btc: Annotated[str | None, typer.Option(help="What a bitcoin is worth, for these prices.")] = None,
    v2g_share: Annotated[str, typer.Option(help="Part of the sessions with export, 0 to 1.")] = "0",
    export_payer: Annotated[
        ExportPayerChoice, typer.Option(help="Who pays for export: the charging point, an aggregator, or the hub.")
    ] = "charging_point",
    vehicle_opener: Annotated[
        Literal["hub", "vehicle"], typer.Option(help="Who opens the channel of a vehicle.")
    ] = "hub",
    base_fee_msat: Annotated[int, typer.Option(help="What the hub asks for a payment.")] = 1000,
    fee_rate_ppm: Annotated[int, typer.Option(help="And of each million of its amount.")] = 1,
    sat_per_vbyte: Annotated[str, typer.Option(help="Fee rate on the chain.")] = "2",
    in_flight: Annotated[int, typer.Option(help="HTLCs that wait in a channel at once.")] = 1,
    wumbo: Annotated[
        bool, typer.Option("--wumbo", help="Channels above 16777215 sat instead of parallel ones.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the written network.")] = 1,
    write: Annotated[Path | None, typer.Option(help="Write a network file for `nodes up`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many channels and how much capital a hub with vehicles and charging points needs; starts nothing."""
    from bench.commands import nodes_plan as command
    from ledgers.lightning.nodes.plan import Policy
    from ledgers.lightning.planning import Demand, ExportPayer, VehicleOpener, plan_network

    money = command.session_money(
        import_msat=import_msat,
        export_msat=export_msat,
        import_wh=import_wh,
        export_wh=export_wh,
        tariff=tariff,
        euro_per_btc=eur_per_btc,
    )
    demand = Demand(
        vehicles,
        stations,
        money,
        sessions_per_vehicle=sessions,
        sessions_per_charging_point=sessions_per_station,
        v2g_share=command.fraction(v2g_share, "--v2g-share"),
        export_payer=ExportPayer(export_payer),
        vehicle_opener=VehicleOpener(vehicle_opener),
        hub_policy=Policy(base_fee_msat=base_fee_msat, fee_rate_ppm=fee_rate_ppm),
        sat_per_vbyte=command.fraction(sat_per_vbyte, "--sat-per-vbyte"),
        in_flight=in_flight,
        wumbo=wumbo,
    )
    plan = plan_network(demand)
    written = None if write is None else command.write(write, plan, seed=seed)
    _tell(plan.to_json(), lambda: typer.echo(command.text(plan)), as_json=as_json)
    if written is not None and not as_json:
        typer.echo(f"\nwritten to {write}; start it with: v2gbench nodes up {write}")


@nodes_app.command("rebalance")
def nodes_rebalance(
    name: NetworkName = "yard",
    *,
    to: Annotated[
        Literal["opened", "even"], typer.Option(help="Balances as when the channels were opened, or even ones.")
    ] = "opened",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be paid.")] = False,
    base_msat: Annotated[int, typer.Option(min=0, help="The most that one payment may cost.")] = 10_000,
    ppm: Annotated[int, typer.Option(min=0, help="And so many millionths of its amount.")] = 1_000,
    least_sat: Annotated[int, typer.Option(min=1, help="Nothing smaller is moved.")] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Bring the channels of a running network back to their balances by payments that go in a circle."""
    from bench.commands.nodes_rebalance import rebalance, text

    done = rebalance(name, to=to, dry_run=dry_run, base_msat=base_msat, ppm=ppm, least_msat=least_sat * 1000)
    _tell(done.to_json(), lambda: typer.echo(text(done)), as_json=as_json)


@nodes_app.command("status")
def nodes_status(
    name: NetworkName = "yard",
    *,
    watching: Annotated[bool, typer.Option("--watch", help="Draw it anew each second; Ctrl-C ends that.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="With --watch: stop after so long.")] = None,
    sessions: Annotated[
        int | None, typer.Option(min=1, help="Sessions that a channel serves: what its costs come to in one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how a running network is: blocks, wallets, channels and what lies on each side, fees, costs, memory."""
    from bench.commands.nodes import status, watch
    from drivers.errors import ConfigError
    from ledgers.lightning.nodes.status import picture

    if seconds is not None and not watching:
        raise ConfigError("--seconds goes with --watch; add it, or leave it out")
    if watching and as_json:
        raise ConfigError("--watch draws for people; leave out --watch or --json")
    if watching and sessions is not None:
        raise ConfigError("--watch shows no costs of a session; leave out --watch or --sessions")
    if watching:
        with contextlib.suppress(KeyboardInterrupt):
            watch(name, seconds=seconds)
        return
    found = status(name, sessions=sessions)
    _tell(found.to_json(), lambda: typer.echo(picture(found)), as_json=as_json)


@app.command()
def doctor(*, as_json: JsonOption = False) -> None:
    """Say what is installed, what is missing, and how to get it."""
    from bench.commands.doctor import examine

    found = examine()
    _tell(found.document(), lambda: typer.echo(found.text()), as_json=as_json)
    raise typer.Exit(PASS if found.healthy else FAIL)


def _tell(document: Mapping[str, Any], text: Callable[[], None], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        text()


def _silent(_line: str) -> None:
    """Say nothing."""


def _complain(sentence: str) -> None:
    typer.echo(f"v2gbench: {sentence}", err=True)
