"""The public API: parse, one call, render."""
