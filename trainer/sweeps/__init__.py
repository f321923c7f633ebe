"""Many runs: their jobs, order and processes."""
