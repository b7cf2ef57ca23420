"""The Lightning part of the error tree.

LedgerError (ledgers/errors.py)
 +- LightningError         anything of the Lightning backend
     +- BuildError         the programs cannot be built, or are not the ones that were built: nothing was started
     +- NetworkRefused     a network is described wrongly, or on any chain but regtest: nothing was started
     +- NodeFailed         a node did not start, died or refused a request; the last lines of its log follow
     +- NodeTimeout        a node or the network was not ready in time; also a TimeoutError

Every message is one sentence: what was wrong, where, and what to do. Lines of a node's log follow below it.
"""

from __future__ import annotations

from ledgers.errors import LedgerError


class LightningError(LedgerError):
    """Anything of the Lightning backend."""


class BuildError(LightningError):
    """The node programs cannot be built, or are not the ones that were built."""


class NetworkRefused(LightningError):
    """A network is described wrongly, or on any chain but regtest; nothing was started.

    `at` is the way to the fault from the plan that was refused: `("channels", 2, "peer")`, or `("push_sat",)`.
    """

    def __init__(self, sentence: str, *, at: tuple[str | int, ...] = ()) -> None:
        super().__init__(sentence)
        self.at = at


class NodeFailed(LightningError):
    """A node did not start, died, or refused a request."""


class NodeTimeout(LightningError, TimeoutError):
    """A node or the network was not ready in time."""
