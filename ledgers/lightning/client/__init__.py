"""Speaking to lnd: kept channels, a deadline on every call, every failure a class of its own, nothing paid twice.

`NodeAccess` says how to reach a node, `LndClient` (or `AsyncLndClient` in an asyncio program) speaks to it. Importing
this package imports no gRPC; opening a client does.
"""

from ledgers.lightning.client.access import NodeAccess
from ledgers.lightning.client.aio import AsyncLndClient
from ledgers.lightning.client.lnd import LndClient
from ledgers.lightning.client.macaroons import Role
from ledgers.lightning.client.values import (
    Agreed,
    CircularRoute,
    EdgePolicy,
    FeeLimit,
    Invoice,
    InvoiceState,
    NodeInfo,
    Payment,
    PaymentState,
)

__all__ = [
    "Agreed",
    "AsyncLndClient",
    "CircularRoute",
    "EdgePolicy",
    "FeeLimit",
    "Invoice",
    "InvoiceState",
    "LndClient",
    "NodeAccess",
    "NodeInfo",
    "Payment",
    "PaymentState",
    "Role",
]
