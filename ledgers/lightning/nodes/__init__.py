"""Real lnd and btcd nodes: built once, run as networks on a private regtest chain.

README.md beside this file is the life of a network. `plan` says what a network consists of, `network` runs it, `build`
makes the programs.
"""
