from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from protocols.accelerator import ask_for_determinism, open_fabric


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("as_before")
def test_a_kernel_that_has_no_deterministic_form_does_not_stop_a_training_on_a_gpu() -> None:
    ask_for_determinism()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled(), "the shadow of a mask has no deterministic slope"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.usefixtures("as_before")
def test_what_the_user_chose_for_cublas_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    ask_for_determinism()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.usefixtures("as_before")
def test_a_cpu_is_left_as_it_is() -> None:
    assert open_fabric("cpu", "32-true").device.type == "cpu"
    assert not torch.are_deterministic_algorithms_enabled()
