"""Live sessions: which worker hears them, what happens when it is lost, and what is told to whom."""
