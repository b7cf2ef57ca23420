"""Anchoring a usage record: its SHA-256 under its session, once, on a channel.

The record itself stays with its owner; the ledger keeps the hash, so that a copy shown years later can be compared with
what the parties saw. A session has one record: a second one under the same session is refused, the same one again
changes nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ledgers.contracts.contract import Effects, Event, Identifier, Input, Outcome, UtcSeconds, WorldState
from ledgers.errors import ContractRefused


class UsageAnchor(Input):
    """What is anchored: the session, its vehicle, the SHA-256 of the record's bytes, and when it was made."""

    session_id: Identifier
    vehicle_id: Identifier
    record_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    utc_s: UtcSeconds

    @property
    def key(self) -> str:
        """The key under which it is stored on every channel."""
        return f"usage/{self.session_id}"


def anchor_usage(state: UsageAnchor | None, anchor: UsageAnchor, channel: str) -> Outcome[UsageAnchor]:
    """The anchor stored on `channel`; raises ContractRefused when the session has another record already."""
    if state is not None:
        if state.record_sha256 != anchor.record_sha256:
            raise ContractRefused(
                f"session {anchor.session_id!r} has the usage record {state.record_sha256[:16]}... on channel "
                f"{channel!r} already; a record is never replaced"
            )
        return Outcome(state, Effects())
    document = anchor.to_json()
    return Outcome(anchor, Effects({channel: {anchor.key: document}}, {channel: (Event("usage_anchored", document),)}))


def usage_of(state: WorldState, channel: str, session_id: str) -> UsageAnchor | None:
    """The anchor of a session on `channel`, if there is one."""
    document = state.get(channel, f"usage/{session_id}")
    if document is None:
        return None
    known = {member: value for member, value in document.items() if member in UsageAnchor.model_fields}
    return UsageAnchor.read(known)
