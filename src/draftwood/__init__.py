"""Draftwood."""
