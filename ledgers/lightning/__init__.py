"""Lightning: real lnd and btcd nodes on a private regtest chain, and settlement over them.

`nodes` builds the programs and runs networks of them. Nothing here is imported by the rest of `ledgers`, and nothing
here imports gRPC before it is used: the compiled messages of `lnd-grpc-client` set a process-wide cipher variable.
"""
