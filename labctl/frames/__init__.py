"""Captured frames on disk."""
