"""Helpers that several tests share; a test imports from here and never from another test."""
