"""What the commands of `v2gbench` do, a module each; `bench.cli` only parses."""
