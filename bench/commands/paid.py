"""What was paid over Lightning, in one line for people: amounts to the millisatoshi, payments, fees.

>>> paid = {"paid_msat": {"import_energy": 224750}, "mode": "hold", "payments": 1, "fees_msat": 1000}
>>> lightning_line({"status": "settled", "lightning": paid})
'paid over Lightning (hold): import_energy 224750 msat; 1 payment, fees 1000 msat'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ledgers.canonical import Json


def lightning_line(settlement: Mapping[str, Json]) -> str:
    """The line for the settlement in a session's summary; empty where nothing was settled over Lightning."""
    told = settlement.get("lightning")
    if not isinstance(told, Mapping):
        return ""
    amounts = ", ".join(f"{kind} {msat} msat" for kind, msat in cast("Mapping[str, int]", told["paid_msat"]).items())
    count = cast("int", told["payments"])
    return (
        f"paid over Lightning ({told['mode']}): {amounts}; {count} payment{'s' * (count != 1)}, "
        f"fees {told['fees_msat']} msat"
    )
