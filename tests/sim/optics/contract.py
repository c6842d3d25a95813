"""What every optic promises, and how each promise is checked. The optics themselves are listed in `cases_*.py`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType

import torch
from torch import Tensor

import sim.optics

DOUBLE = torch.float64


@dataclass(frozen=True)
class OpticCase:
    """One optic at one generic point.

    function: takes the tensors of `parameters` by keyword and gives one tensor.
    parameters: every differentiable parameter in float64, at a point without symmetry, small enough for gradcheck.
    linear_in: the parameter in which the optic is linear.
    adjoint: where one is written out: takes a tensor like the output and, by keyword, all parameters but `linear_in`.
    energy: (measured, expected by physics), equal within `energy_rel`.
    is_psf: the output is an intensity: finite and nowhere negative.
    float32_rel: how far float32 may be off, relative to the largest output.
    """

    name: str
    function: Callable[..., Tensor]
    parameters: Callable[[], dict[str, Tensor]]
    linear_in: str | None = None
    adjoint: Callable[..., Tensor] | None = None
    energy: Callable[[], tuple[float, float]] | None = None
    energy_rel: float = 1e-6
    is_psf: bool = False
    float32_rel: float = 1e-5


def random(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in 0.1..0.9, float64: no symmetry, no edge of a range."""
    return 0.1 + 0.8 * torch.rand(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def check_gradients(case: OpticCase) -> None:
    """Slopes in every parameter are those of the finite difference.

    Parameters and output are taken in units of their own largest value: a wavelength is 1, not 5.5e-7, and the step
    of the finite difference fits both.
    """
    parameters = case.parameters()
    units = {name: _largest(value) for name, value in parameters.items()}
    out_unit = _largest(case.function(**parameters))

    def in_units(*values: Tensor) -> Tensor:
        return case.function(**{n: v * units[n] for n, v in zip(units, values, strict=True)}) / out_unit

    points = [(value / units[name]).requires_grad_() for name, value in parameters.items()]
    assert torch.autograd.gradcheck(in_units, points, eps=1e-6, atol=1e-5, rtol=1e-3, fast_mode=True)


def check_float32(case: OpticCase) -> None:
    """float32 in gives float32 out, close to float64."""
    exact = case.function(**case.parameters())
    found = case.function(**{name: value.float() for name, value in case.parameters().items()})
    assert found.dtype == torch.float32
    assert float((found.double() - exact).abs().max()) <= case.float32_rel * _largest(exact)


def check_repeats(case: OpticCase) -> None:
    """The same input gives the same output to the bit, and is left as it was."""
    parameters = case.parameters()
    first, second = case.function(**parameters), case.function(**parameters)
    assert torch.equal(first, second)
    for name, value in case.parameters().items():
        assert torch.equal(parameters[name], value), f"{case.name} changed its {name}"


def check_superposition(case: OpticCase) -> None:
    """The response to a weighted sum is the weighted sum of the responses."""
    parameters, name = case.parameters(), str(case.linear_in)
    first, second = parameters[name], random(*parameters[name].shape, seed=7)

    def respond(value: Tensor) -> Tensor:
        return case.function(**parameters | {name: value})

    expected = 0.7 * respond(first) - 1.9 * respond(second)
    torch.testing.assert_close(respond(0.7 * first - 1.9 * second), expected, rtol=0, atol=1e-11 * _largest(expected))


def check_adjoint(case: OpticCase) -> None:
    """<A x, y> = <x, A^T y>, with A^T by automatic differentiation and, where there is one, as written out."""
    parameters, name = case.parameters(), str(case.linear_in)
    others = {n: value for n, value in parameters.items() if n != name}
    other_point = random(*parameters[name].shape, seed=3)
    out = case.function(**others, **{name: other_point})
    probe = random(*out.shape, seed=5) - 0.4
    wanted = float((out * probe).sum())
    scale = float(out.norm() * probe.norm())
    start = parameters[name].requires_grad_()
    (pulled,) = torch.autograd.grad(case.function(**others, **{name: start}), start, probe)
    assert abs(float((pulled * other_point).sum()) - wanted) <= 1e-11 * scale
    if case.adjoint is not None:
        written = case.adjoint(probe, **others)
        assert abs(float((written * other_point).sum()) - wanted) <= 1e-11 * scale


def check_energy(case: OpticCase) -> None:
    """Light is neither made nor lost."""
    assert case.energy is not None
    measured, expected = case.energy()
    assert abs(measured - expected) <= case.energy_rel * abs(expected)


def check_intensity(case: OpticCase) -> None:
    """An intensity is finite and nowhere negative."""
    psf = case.function(**case.parameters())
    assert bool(torch.isfinite(psf).all())
    assert float(psf.min()) >= 0


def public_optics() -> dict[str, FunctionType]:
    """Every public function of `sim.optics` that takes or gives tensors, by module and name."""
    found = {}
    for info in pkgutil.iter_modules(sim.optics.__path__):
        module = importlib.import_module(f"sim.optics.{info.name}")
        for name, item in vars(module).items():
            own = isinstance(item, FunctionType) and item.__module__ == module.__name__ and not name.startswith("_")
            if own and any("Tensor" in str(hint) for hint in item.__annotations__.values()):
                found[f"{info.name}.{name}"] = item
    return found


def reached(case: OpticCase) -> set[CodeType]:
    """The code of every Python function that the optic and its adjoint call."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        parameters = case.parameters()
        out = case.function(**parameters)
        if case.adjoint is not None:
            case.adjoint(out, **{name: value for name, value in parameters.items() if name != case.linear_in})
    finally:
        sys.setprofile(before)
    return seen


def _largest(value: Tensor) -> float:
    return float(value.detach().abs().max()) or 1.0
