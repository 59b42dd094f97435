"""Jobs in Redis and on disk, the fleet, and the events; the only part that talks to Redis."""
