"""Everything on one machine: the embedded server, engine environments, and their supervisor."""
