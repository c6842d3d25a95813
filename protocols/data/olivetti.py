"""The olivetti faces, through scikit-learn's downloader."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge

from labctl.errors import BadInput
from labctl.protocol import Progress, unwatched
from protocols.data.image_set import ImageSet
from protocols.data.source import Fractions, ImageSource
from protocols.images import Crop, Encoding, check_scene_shape, linear_radiance, resized
from protocols.splits import stratified_split

if TYPE_CHECKING:
    from protocols.images import Radiance

log = logging.getLogger(__name__)

PEOPLE, PICTURES = 40, 400

SILENCE_LIMIT_S = 20.0
"""A server that says nothing for so long is given up."""

_DAMAGED = (OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, ImportError, zlib.error)
"""What joblib raises on a file that is cut, altered, or no joblib file, with `pickle.UnpicklingError`."""


class Olivetti(ImageSource):
    """400 faces of 40 people, 64x64 px, AT&T Laboratories Cambridge; fetched by scikit-learn on first use, about 4 MB.

    The download itself is untested where there is no network: the tests read a file in scikit-learn's own format.
    The first command that needs the pictures fetches them, `validate` and `plan` too, since hashes and counts depend
    on them; the log says so before. They lie in scikit-learn's data folder: SCIKIT_LEARN_DATA, else
    ~/scikit_learn_data. That file is a pickle, which scikit-learn loads: do not take it from strangers.
    """

    type: Literal["olivetti"] = "olivetti"

    split_seed: Annotated[int, Ge(0)] = 0
    """Decides the split, the same share of every person."""

    fractions: Fractions = (0.6, 0.2, 0.2)
    """Train, val and test share of every person's ten pictures. They sum to 1; val may be 0."""

    encoding: Encoding = "linear"
    crop: Crop = "centre"

    download: bool = True
    """`false` never touches the network."""

    def check(self) -> None:
        """Raise BadInput when the file is not there and may not be fetched. Touches neither network nor file."""
        if not self.download and not olivetti_file().exists():
            raise BadInput(_by_hand(f"olivetti faces are not in {olivetti_file()}, and `download` is false"))

    def check_pixels(self, scene_shape: tuple[int, int], progress: Progress = unwatched) -> None:
        """See `ImageSource.check_pixels`: fetches the pictures when they are not there yet, with a word in the log."""
        self.check()
        self._faces()

    def fingerprint(self) -> str:
        """Changes with the settings and with any pixel."""
        return self._digest([self._faces().tobytes()])

    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """Ten pictures of each person, in scikit-learn's order. Raises BadInput when they cannot be had."""
        check_scene_shape(scene_shape)
        self.check()
        faces = linear_radiance(self._faces(), self.encoding)
        images = np.stack([resized(face, scene_shape, self.crop) for face in faces])[:, None]
        labels = np.repeat(np.arange(PEOPLE, dtype=np.int64), PICTURES // PEOPLE)
        names = [str(place) for place in range(PICTURES)]
        split = stratified_split(
            [str(label) for label in labels], names, fractions=self.fractions, seed=self.split_seed
        )
        class_names = tuple(f"person {number}" for number in range(PEOPLE))
        return ImageSet(images, labels, split, class_names, np.arange(PICTURES, dtype=np.int64))

    def _faces(self) -> Radiance:
        """(400, 64, 64) values 0..1 as scikit-learn gives them."""
        from sklearn.datasets import fetch_olivetti_faces

        path = olivetti_file()
        there = path.exists()
        if not there:
            log.warning("olivetti faces are not here yet; fetching about 4 MB into %s", path.parent)
        try:
            with _polite():
                values, _ = fetch_olivetti_faces(
                    return_X_y=True, download_if_missing=self.download, n_retries=1, delay=1.0
                )
        except (*_DAMAGED, pickle.UnpicklingError) as error:
            if there:
                raise BadInput(
                    f"olivetti faces cannot be read from {path}: {error}; remove the file, it is fetched anew"
                ) from error
            raise BadInput(_by_hand(f"olivetti faces cannot be fetched into {path.parent}: {error}")) from error
        return np.asarray(values, dtype=np.float32).reshape(PICTURES, 64, 64)


def olivetti_file() -> Path:
    """Where scikit-learn keeps the faces. Makes nothing."""
    home = os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")
    return Path(home).expanduser() / "olivetti_py3.pkz"


@contextlib.contextmanager
def _polite() -> Iterator[None]:
    """A download that ends when the server falls silent, and talks on stderr: stdout is for data."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_LIMIT_S)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of its retry; the error comes if that fails too
            yield
    finally:
        socket.setdefaulttimeout(before)


def _by_hand(what: str) -> str:
    return (
        f"{what}; on a computer with network run `python -c 'from sklearn.datasets import fetch_olivetti_faces as f; "
        f"f()'`, and copy ~/scikit_learn_data/olivetti_py3.pkz to {olivetti_file()}"
    )
