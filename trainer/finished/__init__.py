"""What is done with finished runs: opened, judged again, used, exported, compared, listed. None of them is trusted."""
