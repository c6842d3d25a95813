"""The data card of an export: it speaks of the frames that left the set, not of the set that they left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from labctl.frames.card import render_card
from labctl.frames.export.choice import SPLIT_NAMES, Choice
from labctl.frames.summary import PRIVACY_IN_WORDS, summarize, worst_privacy

LAYOUT: Mapping[str, str] = {
    "nexus": "`frames.nxs` is HDF5 after the NeXus standard, with frames, records and units.",
    "tiff": "`frames/` has one TIFF of uint16 DN per frame, `metadata.jsonl` one record per frame.",
    "webdataset": "Each `.tar` is a WebDataset shard: `.frame.npy` of uint16 DN, `.json` the record, `.cls` the label.",
    "tree": "Folders by split and label hold 16-bit PNGs of DN; `metadata.jsonl` has one record per frame.",
}
"""How frames and records are found, by format."""


def export_card(choice: Choice, to: str) -> str:
    """The card as Markdown. Later splits and scenes are said to be there only as far as they are."""
    store = choice.store
    summary = summarize(store, choice.places)
    of_scenes = choice.splits[store.column("kind")[choice.places] == "scene"]
    parts = Counter(SPLIT_NAMES[split] for split in np.sort(of_scenes).tolist() if split >= 0)
    levels = choice.privacy_levels or {store.header.privacy}
    summary |= {
        "planned": None,
        "splits": dict(parts),
        "later_splits": {},
        "privacy_in_words": PRIVACY_IN_WORDS[worst_privacy(levels)],
    }
    export = {
        "format": to,
        "frames_in_set": len(store),
        "left_out": dict(choice.left_out),
        "scenes": len(choice.scene_ids()),
        "layout": LAYOUT[to],
    }
    return render_card(summary, data_id=store.header.data_id, export=export)
