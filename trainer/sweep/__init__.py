"""Many runs: jobs, their order and processes, what is kept of them, and how they rank."""
