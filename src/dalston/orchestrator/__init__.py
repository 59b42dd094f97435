"""Plans jobs, publishes what they made, and keeps the queues moving."""
