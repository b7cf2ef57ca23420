"""`python -m benchmarks NAME [--json]`: run one benchmark, print its figures.

A benchmark is a module of this package with a line in `BENCHMARKS`. It has `add_options(parser)` and
`measure(options, say)`, which returns its figures; `say` shows progress on standard error, so that standard output
carries the result and nothing else. Exit codes: 0 measured (whether goals are met stands in the figures), 1 not
measured, 2 bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, cast

from benchmarks.figures import Figure, document, load_average, table

BENCHMARKS = {
    "pack": "a year of the pack twin at 1 s, 96 groups, a fleet, identification, next to other people's battery models",
    "cycle": "a two-hour session with a 1 s cycle over real sockets, next to a bare script with the same traffic",
    "lightning": "real nodes: how soon a network is ready, how fast it pays and settles, what twenty nodes weigh",
    "lightning_soak": "a thousand payments over real nodes with faults, each paid once, beside the same without faults",
}


class Benchmark(Protocol):
    """What a benchmark's module has."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the benchmark's own options."""

    def measure(self, options: argparse.Namespace, say: Callable[[str], None]) -> list[Figure]:
        """Measure; `say` takes a line of progress."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # The modules of benchmarks import little at their top, so that this help is quick too.
    modules = {name: cast("Benchmark", import_module(f"benchmarks.{name}")) for name in BENCHMARKS}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Speed and scale of the bench, each figure next to its goal and its peer.",
    )
    names = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    for name, sentence in BENCHMARKS.items():
        part = names.add_parser(name, help=sentence, description=sentence[0].upper() + sentence[1:] + ".")
        part.add_argument("--json", action="store_true", help="print one JSON object")
        modules[name].add_options(part)
    options = parser.parse_args(arguments)
    from drivers.errors import BenchError  # noqa: PLC0415  # help needs nothing of the bench
    from ledgers.errors import LedgerError  # noqa: PLC0415

    before = load_average()
    try:
        figures = modules[options.benchmark].measure(options, _say)
    except (BenchError, LedgerError) as error:
        print(f"{options.benchmark}: not measured: {error}", file=sys.stderr)
        return 1
    result = document(options.benchmark, figures, load_before=before, load_after=load_average())
    print(json.dumps(result, indent=2, allow_nan=False) if options.json else _text(result, figures))
    return 0


def _text(result: dict[str, object], figures: Sequence[Figure]) -> str:
    machine = cast("dict[str, object]", result["machine"])
    lines = [f"{name}: {value}" for name, value in machine.items()]
    missed = [figure.name for figure in figures if figure.is_met is False]
    verdict = f"goals missed: {', '.join(missed)}" if missed else "all goals are met"
    return "\n".join([*lines, "", table(figures), "", verdict])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
