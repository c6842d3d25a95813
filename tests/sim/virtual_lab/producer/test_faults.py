"""Faults on demand: each does what its name says, from a node and from outside, and is over afterwards."""

from __future__ import annotations

import itertools
import time

import pytest

from labctl.errors import BadInput
from sim.virtual_lab.producer.control import FAULTS, inject_fault, pending_faults


def run_triggered(camera):
    camera.start(TriggerMode="On")


def fetch_triggered(camera, timeout_s=5.0):
    camera.trigger()
    return camera.try_fetch(timeout_s)


@pytest.fixture(params=["node", "file"])
def inject(request, camera, faults):
    """Injects by the camera's node, and from outside by the control file."""
    if request.param == "node":
        return lambda fault, value: camera.set(**{fault: value})
    return faults.inject


def test_a_dropped_frame_is_a_gap_in_the_ids(camera, inject):
    camera.start()
    ids = [camera.fetch().id]
    inject("FaultDropNext", 3)
    ids += [frame.id for frame in camera.fetch_many(15)]
    gaps = [later - earlier - 1 for earlier, later in itertools.pairwise(ids)]
    assert sum(gaps) == 3
    assert camera.statistic("Dropped") == 3


def test_an_incomplete_frame_is_marked_and_the_next_one_is_whole(camera, inject):
    run_triggered(camera)
    inject("FaultIncompleteNext", 2)
    assert fetch_triggered(camera, 0.3) is None
    assert fetch_triggered(camera, 0.3) is None
    assert camera.incomplete == 2
    assert fetch_triggered(camera).id == 2


def test_a_repeated_id_comes_once_and_the_ids_go_on(camera, inject):
    run_triggered(camera)
    ids = [fetch_triggered(camera).id]
    inject("FaultDuplicateId", 1)
    ids += [fetch_triggered(camera).id for _ in range(3)]
    assert ids == [0, 0, 1, 2]


def test_a_late_frame_comes_late_and_alone(camera, inject):
    run_triggered(camera)
    inject("FaultLateNext", 300)
    for expected_s in (0.3, 0.0):
        begun = time.monotonic()
        assert fetch_triggered(camera) is not None
        assert expected_s <= time.monotonic() - begun < expected_s + 0.25


def test_a_stalled_camera_gives_nothing_for_a_while_and_then_goes_on(camera, inject):
    camera.start()
    last = camera.fetch_many(3)[-1].id
    inject("FaultStallSeconds", 0.4)
    while (frame := camera.try_fetch(0.1)) is not None:
        last = frame.id
    assert camera.fetch().id == last + 1, "it stalls, it does not lose"


def test_a_node_access_hangs_once(camera, inject):
    inject("FaultNodeHangSeconds", 0.3)
    took = []
    for _ in range(2):
        begun = time.monotonic()
        _ = camera.nodes.Gain.value
        took.append(time.monotonic() - begun)
    assert took[0] >= 0.3
    assert took[1] < 0.2


def test_a_lost_camera_answers_nothing_leaves_the_list_and_comes_back(make_consumer, faults):
    consumer = make_consumer()
    camera = consumer.open()
    camera.start()
    camera.fetch()
    faults.inject("FaultLost", 1)
    assert_lost(camera)
    consumer.close()
    consumer = make_consumer()
    assert consumer.serials == ["VLAB0002"], "unplugged"
    consumer.close()
    faults.inject("FaultLost", 0)
    camera = make_consumer().open()
    camera.start()
    assert camera.fetch().id == 0
    assert pending_faults(faults.path) == []


def test_a_camera_lost_for_seconds_stays_dead_until_it_is_opened_again(make_consumer, inject_loss):
    consumer = make_consumer()
    camera = consumer.open()
    camera.start()
    inject_loss(camera, 0.5)
    assert_lost(camera)
    time.sleep(0.6)
    assert_lost(camera)
    consumer.close()
    camera = make_consumer().open()
    camera.start()
    assert camera.fetch().id == 0


def test_the_control_file_keeps_a_camera_lost_for_the_consumers_to_come(make_consumer, faults):
    faults.inject("FaultLostSeconds", 60)
    for _ in range(3):
        consumer = make_consumer()
        assert consumer.serials == ["VLAB0002"]
        consumer.close()
    faults.inject("FaultLost", 0)
    assert make_consumer().serials == ["VLAB0001", "VLAB0002"]


@pytest.fixture(params=["node", "file"])
def inject_loss(request, faults):
    if request.param == "node":
        return lambda camera, seconds: camera.set(FaultLostSeconds=seconds)
    return lambda _, seconds: faults.inject("FaultLostSeconds", seconds)


def assert_lost(camera):
    from genicam import gentl

    while camera.try_fetch(0.15) is not None:
        continue
    with pytest.raises(gentl.IoException):
        _ = camera.nodes.ExposureTime.value


def test_a_fault_hits_only_the_camera_it_is_for(make_consumer, faults):
    consumer = make_consumer()
    first, second = consumer.open("VLAB0001"), consumer.open("VLAB0002")
    faults.inject("FaultDropNext", 2, "VLAB0002")
    for camera in (first, second):
        run_triggered(camera)
    assert fetch_triggered(first).id == 0
    assert fetch_triggered(second, 0.2) is None
    assert pending_faults(faults.path) == []


def test_a_fault_waits_for_a_camera_that_is_not_open(make_consumer, faults):
    faults.inject("FaultDropNext", 1)
    consumer = make_consumer()
    assert pending_faults(faults.path) == [("VLAB0001", "FaultDropNext", 1.0)]
    camera = consumer.open()
    run_triggered(camera)
    assert fetch_triggered(camera, 0.2) is None
    assert fetch_triggered(camera).id == 1


def test_every_fault_of_the_list_is_a_node(camera):
    for fault in FAULTS:
        assert camera.nodes.has_node(fault)


def test_a_fault_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(BadInput, match="FaultDropNxt"):
        inject_fault(tmp_path / "faults.txt", "VLAB0001", "FaultDropNxt", 1)
