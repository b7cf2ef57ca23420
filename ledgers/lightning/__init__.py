"""Lightning: real lnd and btcd nodes on a private regtest chain, and settlement over them.

`nodes` builds the programs and runs networks of them, `client` speaks to one node, `settlement` pays for records.
`verify` checks receipts offline; the rest of `ledgers` imports that and nothing else from here. Nothing imports gRPC
before a node is spoken to: the compiled messages of `lnd-grpc-client` set a process-wide cipher variable.
"""
