"""What a report is made from, beside the database: record, certificate, settlement, its network, summary.

Each part may be missing or damaged; then the reason is kept, so that a report can say it in the part's place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ledgers.canonical import Json
from ledgers.errors import LedgerError
from ledgers.lightning.session_network import NetworkTold, read_session_network
from ledgers.records import SignedRecord, usage_record_from_bytes
from reports.run import Run


@dataclass(frozen=True, slots=True)
class ReportInput:
    """What stands beside the database in a run folder; `absent` says, by the same names, why a part is None."""

    record: SignedRecord | None = None
    certificate: Mapping[str, Json] | None = None
    settlement: Mapping[str, Json] | None = None
    summary: Mapping[str, Json] | None = None
    network: NetworkTold | None = None  # only of a session that was paid over Lightning
    absent: Mapping[str, str] = field(default_factory=dict)


def read_report_input(folder: Path) -> ReportInput:
    """The record, certificate, settlement and summary of a run folder; what cannot be read is named in `absent`."""
    absent: dict[str, str] = {}
    record: SignedRecord | None = None
    path = folder / "records" / "usage_record.json"
    try:
        record = usage_record_from_bytes(_bytes(path), where=path.name)
    except FileNotFoundError:
        absent["record"] = "the run made no usage record"
    except (OSError, LedgerError) as error:
        absent["record"] = str(error)
    documents: dict[str, Mapping[str, Json]] = {}
    for name, relative in _DOCUMENTS.items():
        try:
            document = json.loads(_bytes(folder / relative))
            if isinstance(document, dict):
                documents[name] = document
            else:
                absent[name] = f"{relative} is not a JSON object"
        except FileNotFoundError:
            absent[name] = f"the run folder has no {relative}"
        except (OSError, ValueError, RecursionError) as error:
            absent[name] = f"{relative} cannot be read: {error}"
    network: NetworkTold | None = None
    if (folder / _NETWORK).exists():
        try:
            network = read_session_network(_bytes(folder / _NETWORK), where=_NETWORK)
        except (OSError, LedgerError) as error:
            absent["network"] = str(error)
    return ReportInput(
        record, documents.get("certificate"), documents.get("settlement"), documents.get("summary"), network, absent
    )


def outcome_word(run: Run, given: ReportInput) -> str:
    """How the run came out, in lower case: certification's pass or fail for a completed session, else its ending."""
    word = run.verdict.lower()
    certified = given.summary.get("verdict") if given.summary is not None else None
    return certified.lower() if word == "completed" and isinstance(certified, str) else word


def outcome_reason(run: Run, given: ReportInput) -> str:
    """Why, in one line; empty where there is nothing to say."""
    if run.left_open is not None:
        return run.left_open
    reasons = given.summary.get("reasons") if given.summary is not None else None
    if isinstance(reasons, list) and reasons:
        return "; ".join(str(reason) for reason in reasons)
    return str(run.manifest.get("reason") or "")


_DOCUMENTS: Final = {
    "certificate": "certificate.json",
    "settlement": "records/settlement.json",
    "summary": "summary.json",
}
_NETWORK: Final = "settlement/network.json"
_LARGEST_INPUT_BYTES: Final = 32 * 1024 * 1024


def _bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size > _LARGEST_INPUT_BYTES:
        raise OSError(f"{path.name} has {size} bytes, more than any file of its kind")
    return path.read_bytes()
