"""The alarms contract: it answers questions and takes no transaction.

What stands on channel alarms was written by the monitoring contract while it judged a report; no party can add, change
or drop an alarm by itself.
"""

from __future__ import annotations

from ledgers.canonical import Json
from ledgers.contracts.contract import Contract, Document, Effects, WorldState, refuse_function, text_member
from ledgers.errors import ContractRefused

ALARMS = "alarms"


class AlarmsContract:
    """Queries: `alarms` ({"vehicle_id"}), oldest first, and `usage` ({"session_id"})."""

    name = ALARMS
    version = "alarms/1.0"
    channel = ALARMS

    def transact(self, function: str, document: Document, state: WorldState) -> Effects:  # noqa: ARG002 - the port's shape
        """Refuse: the monitoring contract alone writes alarms."""
        raise ContractRefused(
            f"contract 'alarms' has no function {function!r}: alarms are written by the contract alone"
        )

    def query(self, function: str, document: Document, state: WorldState) -> Json:
        """Answer `alarms` or `usage`."""
        if function == "alarms":
            vehicle_id = text_member(document, "vehicle_id", self.name)
            return [item for _, item in state.scan(ALARMS, f"alarm/{vehicle_id}/")]
        if function == "usage":
            session_id = text_member(document, "session_id", self.name)
            found = state.get(ALARMS, f"usage/{session_id}")
            if found is None:
                raise ContractRefused(f"no usage record of session {session_id!r} is anchored on channel 'alarms'")
            return found
        raise refuse_function(self.name, function, ("alarms", "usage"))


_: type[Contract] = AlarmsContract
