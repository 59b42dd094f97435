"""Benchmarks: every performance claim of the project, measured against its target."""
