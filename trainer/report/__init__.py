"""What a person sees: terminal, pictures, pages."""
