from __future__ import annotations

from collections import Counter

import pytest

from tests.sim.optics import cases_core, cases_designs, cases_wave, contract

CASES = [*cases_core.CASES, *cases_wave.CASES, *cases_designs.CASES]

NOT_AN_OPTIC: dict[str, str] = {}
"""Public functions on tensors that no case covers, each with its reason."""


def every(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@every(CASES)
def test_gradients_are_true_in_every_parameter(case):
    contract.check_gradients(case)


@every(CASES)
def test_single_precision_is_close_to_double(case):
    contract.check_float32(case)


@every(CASES)
def test_the_same_input_gives_the_same_output_and_is_left_alone(case):
    contract.check_repeats(case)


@every([case for case in CASES if case.linear_in])
def test_light_superposes(case):
    contract.check_superposition(case)


@every([case for case in CASES if case.linear_in])
def test_the_adjoint_is_the_adjoint(case):
    contract.check_adjoint(case)


@every([case for case in CASES if case.energy])
def test_energy_is_conserved(case):
    contract.check_energy(case)


@every([case for case in CASES if case.is_psf])
def test_a_psf_is_finite_and_nowhere_negative(case):
    contract.check_intensity(case)


def test_no_optic_is_forgotten_and_no_excuse_is_stale():
    optics = contract.public_optics()
    covered = set().union(*(contract.reached(case) for case in CASES))
    forgotten = {name for name, function in optics.items() if function.__code__ not in covered}
    assert forgotten == set(NOT_AN_OPTIC)


def test_every_case_has_a_name_of_its_own_and_an_adjoint_only_where_it_is_linear():
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert [case.name for case in CASES if case.adjoint and not case.linear_in] == []
