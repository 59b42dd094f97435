"""Checks that an engine does what every engine must, on a server of its own: `dalston engine test`."""
