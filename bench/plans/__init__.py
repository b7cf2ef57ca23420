"""Running Robot Framework plans: rehearsal, execution, live progress, verdict and exit code."""
