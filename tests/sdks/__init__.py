"""The vendors' unmodified SDKs against a live server."""
