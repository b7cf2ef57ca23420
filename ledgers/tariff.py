"""Prices of a session, read from a YAML file, kept exact, rounded once.

A tariff prices three things: energy taken from the grid, energy given back (V2G), and power kept available. One euro
per MWh is one micro-euro per Wh, so prices are kept as exact decimals per their unit and amounts are computed with
fractions; the only rounding is the last step to a whole micro-euro.

Where the remainder goes is stated in the file: `payer` rounds every line down (what is left over stays with who pays),
`payee` rounds every line up. Either way a line differs from the exact amount by less than one micro-euro.

Availability is priced in EUR/MW/year with a year of 365 days of 86,400 s, as capacity is auctioned; no leap year.
No tax is computed: `vat: none` is the only value, so that nobody takes a figure for a gross price.

Numbers are read as they are written (`0.25` is a quarter, not the nearest binary fraction). Errors name file and line.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from ledgers.canonical import sha256_hex
from ledgers.errors import RecordError, SettlementError

SCHEMA = "v2gbench.tariff/1.0"
SECONDS_PER_YEAR = 365 * 86_400

_PER = {
    # micro-euro per Wh, or per W and s, for a price of 1 euro
    "MWh": Fraction(1),
    "kWh": Fraction(1000),
    "MW/year": Fraction(1, SECONDS_PER_YEAR),
}
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class Remainder(enum.StrEnum):
    """Who keeps what rounding to a whole micro-euro leaves over."""

    PAYER = "payer"
    PAYEE = "payee"


@dataclass(frozen=True, slots=True)
class Price:
    """A price as it stands in the file: `text` euro per `per`."""

    text: str
    per: str

    @property
    def unit(self) -> str:
        """The unit for print, "EUR/MWh"."""
        return f"EUR/{self.per}"

    def exact_micro(self, quantity: Fraction) -> Fraction:
        """Micro-euro for `quantity` (Wh for energy; W times s for availability)."""
        return Fraction(self.text) * _PER[self.per] * quantity


@dataclass(frozen=True, slots=True)
class Tariff:
    """The prices and the parties of one tariff file; `sha256` is the hash of the file's bytes."""

    name: str
    currency: str
    import_energy: Price
    v2g_energy: Price
    availability: Price
    remainder: Remainder
    driver: str
    seller: str
    aggregator: str
    sha256: str

    def rounded_micro(self, exact: Fraction) -> int:
        """Whole micro-euro for an exact amount that is not negative."""
        return math.floor(exact) if self.remainder is Remainder.PAYER else math.ceil(exact)


def load_tariff(path: Path) -> Tariff:
    """The tariff in `path`; raises RecordError with file and line for anything that is not exactly as described."""
    try:
        data = path.read_bytes()
        root = YAML(typ="safe", pure=True).compose(data.decode("utf-8"))
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}; check its path and rights") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not text in UTF-8; name a tariff, or save it as UTF-8") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecordError(f"{path} line {line}: {error.problem}") from error
    except YAMLError as error:
        raise RecordError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        raise RecordError(f"{path} is empty; see tariffs/example.yaml")
    reader = _Reader(path)
    schema = reader.text(reader.member_first(root, "schema"), "schema")
    if schema != SCHEMA:
        raise RecordError(f"{path}: schema is {schema!r}; this version reads {SCHEMA!r}")
    top = reader.mapping(
        root,
        "the tariff",
        {
            "schema",
            "name",
            "currency",
            "import_energy",
            "v2g_energy",
            "availability",
            "vat",
            "remainder",
            "parties",
        },
    )
    parties = reader.mapping(top["parties"], "parties", {"driver", "seller", "aggregator"})
    names = {role: reader.text(node, role) for role, node in parties.items()}
    if len(set(names.values())) != len(names):
        raise reader.error(top["parties"], "driver, seller and aggregator must be three different accounts")
    reader.choice(top["vat"], "vat", {"none"})
    return Tariff(
        name=reader.text(top["name"], "name"),
        currency=reader.choice(top["currency"], "currency", {"EUR"}),
        import_energy=reader.price(top["import_energy"], "import_energy", {"MWh", "kWh"}),
        v2g_energy=reader.price(top["v2g_energy"], "v2g_energy", {"MWh", "kWh"}),
        availability=reader.price(top["availability"], "availability", {"MW/year"}),
        remainder=Remainder(reader.choice(top["remainder"], "remainder", {"payer", "payee"})),
        driver=names["driver"],
        seller=names["seller"],
        aggregator=names["aggregator"],
        sha256=sha256_hex(data),
    )


def exact(value: int | Decimal, *, what: str) -> Fraction:
    """`value` as a fraction; raises SettlementError for a float (money is never one), a negative or infinite value."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise SettlementError(
            f"{what} is {value!r}; give an int or a Decimal, so that no binary rounding enters an amount"
        )
    if isinstance(value, Decimal) and not value.is_finite():
        raise SettlementError(f"{what} is {value}; it must be a finite number")
    if value < 0:
        raise SettlementError(f"{what} is {value}; it must not be negative: import and export have a register each")
    return Fraction(value)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns YAML nodes into values; every refusal has the line of its node."""

    path: Path

    def error(self, node: Node, message: str) -> RecordError:
        return RecordError(f"{self.path} line {node.start_mark.line + 1}: {message}")

    def member_first(self, root: Node, name: str) -> Node:
        if isinstance(root, MappingNode):
            for key, value in root.value:
                if isinstance(key, ScalarNode) and key.value == name and isinstance(value, Node):
                    return value
        raise self.error(root, f"the tariff needs {name!r}; see tariffs/example.yaml")

    def mapping(self, node: Node, what: str, members: set[str]) -> Mapping[str, Node]:
        if not isinstance(node, MappingNode):
            raise self.error(node, f"{what} must be a mapping with {', '.join(sorted(members))}")
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = self.text(key, f"a key of {what}")
            if name not in members:
                raise self.error(key, f"unknown key {name!r} in {what}; it takes {', '.join(sorted(members))}")
            if name in found:
                raise self.error(key, f"{name!r} stands twice in {what}; keep one")
            found[name] = value
        missing = sorted(members - set(found))
        if missing:
            raise self.error(node, f"{what} lacks {', '.join(missing)}")
        return found

    def text(self, node: Node, what: str) -> str:
        if not isinstance(node, ScalarNode) or not node.value.strip():
            raise self.error(node, f"{what} must be a text")
        return str(node.value)

    def choice(self, node: Node, what: str, words: set[str]) -> str:
        word = self.text(node, what)
        if word not in words:
            raise self.error(node, f"{what} is {word!r}; it can be {' or '.join(sorted(words))}")
        return word

    def price(self, node: Node, what: str, units: set[str]) -> Price:
        members = self.mapping(node, what, {"price", "per"})
        text = self.text(members["price"], f"{what}.price")
        if not _NUMBER.fullmatch(text):
            raise self.error(
                members["price"], f"{what}.price is {text!r}; write a plain decimal number of euro that is not negative"
            )
        return Price(text, self.choice(members["per"], f"{what}.per", units))
