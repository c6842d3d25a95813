"""Captures that are killed, or lose their power, at many moments: python -m tests.kills."""
