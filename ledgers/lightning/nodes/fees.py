"""The fee market of a chain that has none: lnd asks a URL of ours what a transaction costs (`fee.url`).

lnd on regtest asks anew for each transaction, so a spike counts at once.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NORMAL_SAT_PER_VBYTE = 2
FLOOR_SAT_PER_VBYTE = 1.012  # lnd: chainfee.FeePerKwFloor, 253 sat per 1000 weight units


class FeeMarket:
    """Serves one fee rate for every target on 127.0.0.1 until `close`."""

    def __init__(self) -> None:
        self._sat_per_vbyte = float(NORMAL_SAT_PER_VBYTE)
        market = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                body = json.dumps(market.document()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="fee-market", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """What lnd is told."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/fees.json"

    @property
    def sat_per_vbyte(self) -> float:
        """The fee rate of the moment."""
        return self._sat_per_vbyte

    @sat_per_vbyte.setter
    def sat_per_vbyte(self, value: float) -> None:
        self._sat_per_vbyte = max(float(value), FLOOR_SAT_PER_VBYTE)

    def document(self) -> dict[str, object]:
        """What lnd reads: satoshi per 1000 virtual bytes for a target of one block and more."""
        return {
            "fee_by_block_target": {"1": round(self._sat_per_vbyte * 1000)},
            "min_relay_feerate": round(FLOOR_SAT_PER_VBYTE * 1000),
        }

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)
