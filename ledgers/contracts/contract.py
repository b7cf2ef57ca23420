"""What a contract is: pure functions over documents, run alike by the embedded ledger and as Fabric chaincode.

A contract reads the world state, answers with the writes and events it wants, and touches nothing: no clock, no file,
no randomness, no network. So every node computes the same answer from the same input, and a test needs no ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Generic, Protocol, Self, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ledgers.canonical import Json, to_canonical
from ledgers.errors import ContractRefused

Document = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a contract announces to those who may read the channel."""

    name: str
    payload: Document


@dataclass(frozen=True, slots=True)
class Effects:
    """What a transaction changes: per channel, the documents to store under their keys, and the events."""

    writes: Mapping[str, Mapping[str, Document]] = field(default_factory=dict)
    events: Mapping[str, tuple[Event, ...]] = field(default_factory=dict)


StateT_co = TypeVar("StateT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[StateT_co]):
    """What a contract's function answers: the new state, the documents to write per channel, and the events."""

    state: StateT_co
    effects: Effects

    @property
    def writes(self) -> Mapping[str, Mapping[str, Document]]:
        """Per channel, documents by key."""
        return self.effects.writes

    @property
    def events(self) -> tuple[tuple[str, Event], ...]:
        """Channel and event, in the order of the channels."""
        return tuple((channel, event) for channel, events in self.effects.events.items() for event in events)


class Input(BaseModel):
    """A document sent to a contract: frozen, no unknown member, no NaN, no number sent as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_json(self) -> dict[str, Json]:
        """The document as a JSON object; members without a value are left out."""
        return cast("dict[str, Json]", self.model_dump(mode="json", exclude_none=True, by_alias=True))

    def to_text(self) -> str:
        """The document as the argument of a transaction (RFC 8785, no newline)."""
        return to_canonical(self.to_json()).decode().rstrip("\n")

    @classmethod
    def read(cls, document: Document) -> Self:
        """The document checked; raises ContractRefused naming the first member that is wrong."""
        try:
            return cls.model_validate_json(to_canonical(document))
        except ValidationError as error:
            first = error.errors()[0]
            member = ".".join(str(part) for part in first["loc"]) or "the document"
            raise ContractRefused(f"{cls.__name__}, {member}: {first['msg']}") from error


Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name without slash or space, so that it can be part of a key."""
UtcSeconds = Annotated[float, Field(ge=0, le=253_402_300_799), AfterValidator(lambda value: round(value, 3))]
"""Seconds since 1970-01-01T00:00:00Z up to the year 9999, kept to the millisecond."""


class WorldState(Protocol):
    """The newest document under each key of a channel; reading is all that a contract can do with it."""

    def get(self, channel: str, key: str) -> Document | None:
        """The document under `key`, or None when nothing was ever written there."""

    def scan(self, channel: str, prefix: str) -> Iterator[tuple[str, Document]]:
        """Documents whose key starts with `prefix`, in the order of their keys."""


class Contract(Protocol):
    """One contract; it lives on one channel and may write on others where `channels.yaml` lets it."""

    @property
    def name(self) -> str:
        """The word used in transactions."""

    @property
    def version(self) -> str:
        """Changes whenever the same input may give another output."""

    @property
    def channel(self) -> str:
        """The channel on which its transactions are written."""

    def transact(self, function: str, document: Document, state: WorldState) -> Effects:
        """Run a function; raises ContractRefused, and then nothing is written."""

    def query(self, function: str, document: Document, state: WorldState) -> Json:
        """Answer a question; raises ContractRefused for an unknown one."""


def refuse_function(contract: str, function: str, known: tuple[str, ...]) -> ContractRefused:
    """The refusal of a function that the contract does not have."""
    return ContractRefused(f"contract {contract!r} has no function {function!r}; it has {', '.join(known)}")


def text_member(document: Document, member: str, contract: str) -> str:
    """A query's one text argument; raises ContractRefused when the document is anything else."""
    value = document.get(member)
    if set(document) != {member} or not isinstance(value, str):
        raise ContractRefused(f"this query of contract {contract!r} needs exactly one member, the text {member!r}")
    return value
