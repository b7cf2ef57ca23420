"""The wire under python-OBD: a pyserial URL handler of our own over a link with dead-lines.

python-OBD opens its port through pyserial and asks it byte by byte; on a silent line it waits ten seconds, up to eleven
times, and then says that it is connected. The handler in `protocol_v2gelm` reads whatever is there at once, ends every
exchange at its dead-line, keeps the reason (`ElmLink.failure`) and tells the wire trace.

The name of the package is given to pyserial's list of handler packages when a vehicle is opened, never on import.
"""
