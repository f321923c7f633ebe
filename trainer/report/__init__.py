"""Output for people: terminal, pictures and HTML pages."""
