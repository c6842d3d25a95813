"""Olivetti faces without a network: a file in scikit-learn's own format stands for the download."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from labctl.errors import BadInput
from protocols.data import Olivetti
from protocols.data import olivetti as module

SCENE = (63, 63)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """scikit-learn's data folder, which is not there yet."""
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def faces(home: Path) -> np.ndarray:
    """400 random pictures where scikit-learn looks for them; it turns each by its diagonal."""
    home.mkdir()
    values = np.random.default_rng(0).random((400, 4096)).astype(np.float32)
    values[0, :2] = 0, 1
    joblib.dump(values, home / "olivetti_py3.pkz", compress=6)
    return values.reshape(400, 64, 64).transpose(0, 2, 1)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*where: object, **how: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_forty_people_with_ten_pictures_each_are_split_within_each(faces):
    data = Olivetti().load(SCENE)
    assert data.images.shape == (400, 1, *SCENE)
    assert data.class_names[0] == "person 0"
    assert len(data.class_names) == 40
    for person in range(40):
        assert np.array_equal(np.bincount(data.split[data.labels == person]), [6, 2, 2])
    assert [len(Olivetti(fractions=(0.5, 0, 0.5)).load(SCENE).part(part)) for part in (0, 1, 2)] == [200, 0, 200]


def test_a_picture_of_the_scene_size_is_what_scikit_learn_gives(faces):
    assert np.allclose(Olivetti().load((64, 64)).images[:, 0], faces, atol=1e-6)
    assert Olivetti(encoding="srgb").load((64, 64)).images.mean() < 0.8 * faces.mean()


def test_the_fingerprint_follows_pixels_and_settings(faces, home):
    seen = {Olivetti().fingerprint(), Olivetti(split_seed=1).fingerprint(), Olivetti().fingerprint()}
    joblib.dump(1 - faces.reshape(400, -1), home / "olivetti_py3.pkz", compress=3)
    assert len(seen | {Olivetti().fingerprint()}) == 3


@pytest.mark.usefixtures("no_network")
def test_without_network_it_says_where_the_file_belongs_and_how_to_get_it(home, caplog):
    source = Olivetti()
    source.check()
    assert not home.exists(), "a check makes nothing"
    with pytest.raises(BadInput) as refused:
        source.check_pixels(SCENE)
    assert "not here yet; fetching about 4 MB" in caplog.text
    text = str(refused.value)
    assert f"cannot be fetched into {home}: " in text
    assert "fetch_olivetti_faces" in text
    assert f"copy ~/scikit_learn_data/olivetti_py3.pkz to {home}/olivetti_py3.pkz" in text
    assert list(home.iterdir()) == [], "a failed download leaves nothing behind"


def test_a_server_that_falls_silent_is_given_up(home, monkeypatch):
    silent = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(module, "SILENCE_LIMIT_S", 0.2)
    monkeypatch.setattr(
        "sklearn.datasets._olivetti_faces.FACES",
        _remote(f"http://127.0.0.1:{silent.getsockname()[1]}/olivettifaces.mat"),
    )
    began = time.monotonic()
    with silent, pytest.raises(BadInput, match="timed out"):
        Olivetti().load(SCENE)
    assert time.monotonic() - began < 5
    assert socket.getdefaulttimeout() is None


def test_nothing_is_fetched_when_that_is_not_wanted(home, monkeypatch):
    def touched(*where: object, **how: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", touched)
    for look in (Olivetti(download=False).check, lambda: Olivetti(download=False).load(SCENE)):
        with pytest.raises(BadInput, match="`download` is false"):
            look()
    assert not home.exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04broken"])
def test_a_damaged_file_is_named_with_what_to_do(home, content):
    home.mkdir()
    (home / "olivetti_py3.pkz").write_bytes(content)
    with pytest.raises(BadInput, match=r"cannot be read from .*olivetti_py3\.pkz: .*remove the file"):
        Olivetti().check_pixels(SCENE)


def test_a_file_of_another_set_is_refused(home):
    home.mkdir()
    joblib.dump(np.zeros((3, 4)), home / "olivetti_py3.pkz")
    with pytest.raises(BadInput, match="cannot be read from"):
        Olivetti().load(SCENE)


def test_scikit_learn_talks_on_stderr(home, capsys, no_network):
    with pytest.raises(BadInput):
        Olivetti().load(SCENE)
    said = capsys.readouterr()
    assert said.out == ""
    assert "downloading Olivetti faces" in said.err


def _remote(url: str) -> object:
    from sklearn.datasets._base import RemoteFileMetadata

    return RemoteFileMetadata("olivettifaces.mat", url, "0" * 64)
