"""Who may read and write which channel, and which data may stand on it.

The rules are data (`channels.yaml`): Table 1 and Table 2 of the paper the framework comes from, and, marked as this
project's choice, the writers and the members that Table 2 does not name. Every ledger asks the same `Channels` object,
so that the embedded one and a Fabric network refuse alike.

A document is refused on a channel when one of its members carries a data type that Table 2 does not assign to that
channel, and also when a member is unknown: what has no type has no permission.

>>> channels = load_channels()
>>> channels.may_read("insurance_company", "alarms"), channels.may_read("insurance_company", "monitoring")
(True, False)
>>> channels.check_document("alarms", {"soc_percent": 55.0})
>>> channels.check_document("remuneration", {"soc_percent": 55.0})
Traceback (most recent call last):
ledgers.errors.ContractRefused: 'soc_percent' is battery_soc, which Table 2 does not put on channel 'remuneration'; \
leave it out
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ledgers.canonical import Json
from ledgers.errors import AccessDenied, ContractRefused, RecordError

SCHEMA = "v2gbench.channels/1.0"
CONTEXT = "context"
VEHICLE_USE = "vehicle_use"
CONTRACT_ROLE = "contract"

Word = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class Channels(BaseModel):
    """The rules of one set of channels; refused whole when they contradict each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_name: Annotated[str, Field(alias="schema")]
    readers: Mapping[Word, tuple[Word, ...]]
    data_types: Mapping[Word, tuple[Word, ...]]
    writers: Mapping[Word, Mapping[Word, tuple[Word, ...]]]
    contract_writes: Mapping[Word, tuple[Word, ...]]
    fields: Mapping[Word, tuple[Word, ...]]
    _types: dict[str, str] = PrivateAttr(default_factory=dict)
    _allowed: dict[str, frozenset[str]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schema_name != SCHEMA:
            raise ValueError(f"schema is {self.schema_name!r}; this version reads {SCHEMA!r}")
        names = set(self.names)
        used = [*self.readers.values(), *self.data_types.values(), *self.contract_writes.values()]
        for channel in {name for group in used for name in group} | set(self.contract_writes):
            if channel not in names:
                raise ValueError(f"channel {channel!r} is not one of those under 'writers'")
        for kind in self.fields:
            if kind not in self.data_types and kind not in {CONTEXT, VEHICLE_USE}:
                raise ValueError(f"'fields' names data type {kind!r}, which is not under 'data_types'")
        members = [member for group in self.fields.values() for member in group]
        twice = sorted({member for member in members if members.count(member) > 1})
        if twice:
            raise ValueError(f"members {twice} stand under two data types; each has one")
        self._types.update({member: kind for kind, group in self.fields.items() for member in group})
        for channel in self.names:
            allowed = (member for member, kind in self._types.items() if channel in self.channels_of(kind))
            self._allowed[channel] = frozenset(allowed)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The channels, in the order of the file."""
        return tuple(self.writers)

    @property
    def roles(self) -> tuple[str, ...]:
        """The stakeholders of Table 1, in its order."""
        return tuple(self.readers)

    def may_read(self, role: str, channel: str) -> bool:
        """Table 1: whether this stakeholder may read this channel."""
        return channel in self.readers.get(role, ())

    def may_write(self, role: str, channel: str, function: str) -> bool:
        """Whether this role may call this function of the channel's contract."""
        return function in self.writers.get(channel, {}).get(role, ())

    def require_read(self, role: str, channel: str, *, who: str) -> None:
        """Raise AccessDenied unless `role` may read `channel`."""
        self._require_channel(channel)
        if not self.may_read(role, channel):
            readers = [name for name in self.readers if self.may_read(name, channel)]
            raise AccessDenied(
                f"{who!r} ({role}) may not read channel {channel!r}; its readers are {', '.join(readers)}"
            )

    def require_write(self, role: str, channel: str, function: str, *, who: str) -> None:
        """Raise AccessDenied unless `role` may call `function` on `channel`."""
        self._require_channel(channel)
        if not self.may_write(role, channel, function):
            writers = [name for name in self.writers[channel] if self.may_write(name, channel, function)]
            allowed = ", ".join(writers) if writers else "the contract alone"
            raise AccessDenied(f"{who!r} ({role}) may not call {function!r} on channel {channel!r}; allowed: {allowed}")

    def require_contract_write(self, source: str, target: str) -> None:
        """Raise ContractRefused unless the contract of channel `source` may write on channel `target` by itself."""
        if target != source and target not in self.contract_writes.get(source, ()):
            raise ContractRefused(f"the contract of channel {source!r} may not write on channel {target!r}")

    def data_type(self, member: str) -> str | None:
        """The data type of a document's member: a row of Table 2, "context", "vehicle_use", or None if unknown."""
        return self._types.get(member)

    def channels_of(self, data_type: str) -> tuple[str, ...]:
        """The channels on which a data type may stand."""
        if data_type == CONTEXT:
            return self.names
        if data_type == VEHICLE_USE:
            return ("monitoring",)
        return self.data_types.get(data_type, ())

    def check_document(self, channel: str, document: Json) -> None:
        """Raise ContractRefused when `document` carries something that may not stand on `channel`."""
        self._require_channel(channel)
        _check(document, channel, self._allowed[channel], self)

    def _require_channel(self, channel: str) -> None:
        if channel not in self.writers:
            raise AccessDenied(f"there is no channel {channel!r}; there are {', '.join(self.names)}")


def load_channels(path: Path | None = None) -> Channels:
    """The rules in `path`, by default those that the package ships; raises RecordError naming the file."""
    source = path or Path(__file__).with_name("channels.yaml")
    try:
        return Channels.model_validate(YAML(typ="safe", pure=True).load(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise RecordError(f"{source} cannot be read as YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "top level"
        raise RecordError(f"{source}, {place}: {first['msg']}") from error


def _check(document: Json, channel: str, allowed: frozenset[str], channels: Channels) -> None:
    if isinstance(document, Mapping):
        for member, value in document.items():
            if member not in allowed:
                raise ContractRefused(_why_refused(member, channel, channels))
            _check(value, channel, allowed, channels)
    elif isinstance(document, Sequence) and not isinstance(document, str):
        for value in document:
            _check(value, channel, allowed, channels)


def _why_refused(member: str, channel: str, channels: Channels) -> str:
    kind = channels.data_type(member)
    if kind is None:
        return f"{member!r} has no data type in channels.yaml, so it may not stand on channel {channel!r}"
    if kind == VEHICLE_USE:
        return f"{member!r} tells how the vehicle is used, which stays on channel 'monitoring'; leave it out"
    return f"{member!r} is {kind}, which Table 2 does not put on channel {channel!r}; leave it out"
