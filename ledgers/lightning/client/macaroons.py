"""Macaroons that can do one job: baked from the node's admin macaroon, each under a root key of its own.

A root key per role makes a role revocable alone (`lncli deletemacaroonid`). Permissions are single calls (`uri`), not
lnd's broad entities: `offchain:write` would let who settles an invoice also pay, and close channels.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Role(enum.StrEnum):
    """What the holder of a macaroon does."""

    WATCHER = "watcher"  # looks: balances, channels, invoices, payments
    PAYEE = "payee"  # makes invoices, holds, settles and cancels them
    PAYER = "payer"  # pays invoices, and tracks what it paid
    PARTY = "party"  # both: who pays for import is paid for export


_LOOK = (
    "/lnrpc.Lightning/GetInfo",
    "/lnrpc.Lightning/ChannelBalance",
    "/lnrpc.Lightning/ListChannels",
    "/lnrpc.Lightning/PendingChannels",
    "/lnrpc.Lightning/GetChanInfo",
    "/lnrpc.Lightning/DecodePayReq",
    "/lnrpc.Lightning/QueryRoutes",
    "/invoicesrpc.Invoices/LookupInvoiceV2",
    "/invoicesrpc.Invoices/SubscribeSingleInvoice",
    "/routerrpc.Router/TrackPaymentV2",
)
_TAKE = (
    "/lnrpc.Lightning/AddInvoice",
    "/invoicesrpc.Invoices/AddHoldInvoice",
    "/invoicesrpc.Invoices/SettleInvoice",
    "/invoicesrpc.Invoices/CancelInvoice",
)
_GIVE = (
    "/routerrpc.Router/SendPaymentV2",
    "/routerrpc.Router/ResetMissionControl",
)

PERMISSIONS: Mapping[Role, tuple[str, ...]] = {
    Role.WATCHER: _LOOK,
    Role.PAYEE: (*_LOOK, *_TAKE),
    Role.PAYER: (*_LOOK, *_GIVE),
    Role.PARTY: (*_LOOK, *_TAKE, *_GIVE),
}
ROOT_KEYS: Mapping[Role, int] = {role: 2100 + number for number, role in enumerate(Role)}
"""Root key ids; any number but lnd's own 0."""
