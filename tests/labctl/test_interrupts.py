from __future__ import annotations

import contextlib
import os
import signal

import pytest

from labctl.interrupts import Aborted, Interrupts, StopLevel


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def write_shielded(interrupts: Interrupts, done: list[str]) -> None:
    with interrupts.shield():
        ctrl_c()
        done.append("written")


def test_the_first_ctrl_c_asks_and_raises_nothing() -> None:
    with Interrupts() as interrupts:
        ctrl_c()
        assert interrupts.level == StopLevel.AFTER_BLOCK
        assert "after the current block" in interrupts.reason


def test_the_second_ctrl_c_aborts_where_we_are() -> None:
    with Interrupts() as interrupts, interrupts.exposed():
        ctrl_c()
        with pytest.raises(Aborted):
            ctrl_c()
        assert interrupts.level == StopLevel.ABORT


def test_the_third_ctrl_c_kills_the_children_and_raises_nothing_more() -> None:
    killed = []
    with Interrupts() as interrupts, interrupts.exposed():
        interrupts.on_kill = lambda: killed.append(True)
        ctrl_c()
        with pytest.raises(Aborted):
            ctrl_c()
        ctrl_c()
        ctrl_c()
        assert interrupts.level == StopLevel.KILL
    assert killed


def test_an_abort_waits_for_the_end_of_a_shielded_part() -> None:
    done: list[str] = []
    with Interrupts() as interrupts, interrupts.exposed():
        ctrl_c()
        with pytest.raises(Aborted):
            write_shielded(interrupts, done)
    assert done == ["written"]


def test_nothing_is_raised_outside_the_exposed_part() -> None:
    with Interrupts():
        for _ in range(3):
            ctrl_c()


def test_an_abort_that_was_swallowed_comes_back_to_whoever_asks() -> None:
    with Interrupts() as interrupts, interrupts.exposed():
        with contextlib.suppress(Aborted):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Aborted):
            interrupts.check()


def test_a_dead_terminal_tears_nothing() -> None:
    def say(text: str) -> None:
        raise OSError(5, "Input/output error")

    with Interrupts(say) as interrupts:
        ctrl_c()
        assert interrupts.level == StopLevel.AFTER_BLOCK


def test_terminate_aborts_at_once() -> None:
    with Interrupts() as interrupts, pytest.raises(Aborted), interrupts.exposed():
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.level == StopLevel.ABORT


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.exposed():
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.level == StopLevel.NONE
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_aborts_in_order() -> None:
    with Interrupts() as interrupts, pytest.raises(Aborted), interrupts.exposed():
        os.kill(os.getpid(), signal.SIGHUP)
    assert interrupts.level == StopLevel.ABORT


def test_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
