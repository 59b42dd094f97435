"""What every Dalston process does at its start: die with its parent, log in one shape."""

import ctypes
import json
import logging
import os
import signal
import sys
import threading

PARENT_PIPE = "DALSTON_PARENT_PIPE"
"""Names an inherited file descriptor; when it closes, the parent is gone."""


def follow_parent() -> None:
    """End this process at once when the process that started it ends, however it ends.

    The pipe works everywhere; on Linux the kernel's own signal also reaches a process that holds
    the interpreter lock.
    """
    if descriptor := os.environ.pop(PARENT_PIPE, ""):
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        threading.Thread(target=lambda: os.read(int(descriptor), 1) or os._exit(0), daemon=True).start()


def end() -> None:
    """End this process now: a thread that is in native code does not survive the interpreter's own end."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


class Lines(logging.Formatter):
    """One line a record, plain or as JSON; personal data is never in a message."""

    def format(self, record: logging.LogRecord) -> str:
        text, level = record.getMessage(), record.levelname.lower()
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        if os.environ.get("DALSTON_LOG_FORMAT") == "json":
            return json.dumps({"time": record.created, "level": level, "event": text + trace})
        return f"{self.formatTime(record, '%H:%M:%S')} {'' if level == 'info' else level + ': '}{text}{trace}"


def log_to_stderr() -> None:
    """Log as DALSTON_LOG_FORMAT and DALSTON_LOG_LEVEL say; libraries only warn."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("dalston").setLevel(os.environ.get("DALSTON_LOG_LEVEL", "INFO").upper())
