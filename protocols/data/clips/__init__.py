"""Clips with an action that is asked for and a person who is to stay hidden.

Registered under the entry-point group `labctl.datasets`; a lab adds its own by another `ClipSource`.
"""

from protocols.data.clips.clip_set import Clips, ClipSet
from protocols.data.clips.clip_source import ClipSource
from protocols.data.clips.ipn_hand import IpnHand
from protocols.data.clips.kth import Kth
from protocols.data.clips.moving_digits import MovingDigits
from protocols.data.clips.npz_clips import NpzClips
from protocols.data.clips.sbu import Sbu
from protocols.data.clips.video_tree import VideoTree
from protocols.data.clips.weizmann import Weizmann

__all__ = [
    "ClipSet",
    "ClipSource",
    "Clips",
    "IpnHand",
    "Kth",
    "MovingDigits",
    "NpzClips",
    "Sbu",
    "VideoTree",
    "Weizmann",
]
