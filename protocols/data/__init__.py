"""Data sets as linear radiance on the scene grid: digits, olivetti faces, an npz file, a folder of pictures.

Registered under the entry-point group `labctl.datasets`; a lab adds its own by another `ImageSource`.
"""

from protocols.data.digits import Digits
from protocols.data.folder import Folder
from protocols.data.image_set import ImageSet, Pictures
from protocols.data.npz import Npz
from protocols.data.olivetti import Olivetti
from protocols.data.source import ImageSource
from protocols.splits import Split

__all__ = ["Digits", "Folder", "ImageSet", "ImageSource", "Npz", "Olivetti", "Pictures", "Split"]
