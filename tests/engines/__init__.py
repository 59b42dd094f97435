"""What single engines do with recordings, each run alone as `engine.py talk.wav` does it."""
