"""Speed and scale of the bench, each figure next to its peer and its goal: `python -m benchmarks NAME [--json]`."""
