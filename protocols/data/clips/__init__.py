"""Clips with an action that is asked for and a person who is to stay hidden."""

from protocols.data.clips.clip_set import ClipSet
from protocols.data.clips.clip_source import ClipSource

__all__ = ["ClipSet", "ClipSource"]
