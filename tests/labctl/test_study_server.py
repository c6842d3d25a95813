"""The local server of a study: what it gives to whom, and that a kill loses nothing that was acknowledged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from labctl.errors import BadInput
from labctl.study.conduct import Study
from labctl.study.server import StudyServer
from tests.labctl.study_sets import make_set, material, served

PATIENCE_S = 60


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("set") / "disc")


@pytest.fixture
def server(frames: Path, tmp_path: Path) -> Iterator[StudyServer]:
    with served(Study(material(frames), tmp_path / "out")) as made:
        yield made


def ask(server: StudyServer, path: str, sent: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE_S)
    try:
        body = None if sent is None else json.dumps(sent)
        kind = {} if sent is None else {"Content-Type": "application/json"}
        connection.request("GET" if sent is None else "POST", path, body, {**kind, **headers})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


def begun(server: StudyServer) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(ask(server, "/api/begin", {"agreed": True})[2])
    return state


def test_the_page_and_its_parts_come_from_here_and_stay_in_no_cache(server: StudyServer) -> None:
    for path in ("/", "/study.css", "/study.js", "/api/about"):
        status, headers, body = ask(server, path)
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"http://" not in body
        assert b"https://" not in body


def test_nobody_begins_without_having_agreed(server: StudyServer, tmp_path: Path) -> None:
    assert ask(server, "/api/begin", {"agreed": False})[0] == 400
    assert ask(server, "/api/begin", {})[0] == 400
    assert not (tmp_path / "out" / "participants.jsonl").exists()
    assert begun(server)["phase"] == "practice"


def test_pictures_are_given_for_the_present_question_only(server: StudyServer) -> None:
    code = begun(server)["code"]
    status, headers, body = ask(server, f"/picture/{code}/0/frame.png")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "image/png", "no-store")
    assert body.startswith(b"\x89PNG")
    assert ask(server, f"/picture/{code}/0/2.png")[0] == 200
    assert ask(server, f"/picture/{code}/0/3.png")[0] == 409  # of three choices
    assert ask(server, f"/picture/{code}/1/frame.png")[0] == 409
    assert ask(server, "/picture/NOBODY/0/frame.png")[0] == 404
    assert ask(server, "/study.json")[0] == 404
    assert ask(server, "/../study.py")[0] == 404


def test_a_page_of_another_name_gets_nothing(server: StudyServer) -> None:
    port = server.server_port
    assert ask(server, "/api/about", Host=f"localhost:{port}")[0] == 200
    for name in (f"evil.example:{port}", "", f"192.0.2.1:{port}"):
        assert ask(server, "/api/about", Host=name)[0] == 403


def test_what_is_no_answer_is_refused_and_not_kept(server: StudyServer, tmp_path: Path) -> None:
    code = begun(server)["code"]
    given = {"code": code, "number": 0, "chosen": 1, "response_ms": 800.5, "interrupted": False}
    for wrong in ({**given, "response_ms": -1}, {**given, "chosen": "x"}, {**given, "more": 1}, {"code": code}, [1]):
        assert ask(server, "/api/answer", wrong)[0] == 400
    assert ask(server, "/api/answer", {**given, "chosen": 7})[0] == 409
    assert ask(server, "/api/answer", {**given, "code": "NOBODY"})[0] == 404
    assert ask(server, "/api/answer", given, **{"Content-Type": "text/plain"})[0] == 415  # as a form could send it
    assert ask(server, "/api/answer", {"code": "x" * 20_000})[0] == 413
    assert not (tmp_path / "out" / "answers.jsonl").exists()
    assert ask(server, "/api/answer", given)[0] == 200


def test_many_at_once_keep_their_own_order(server: StudyServer) -> None:
    ends: list[dict[str, Any]] = []

    def take_part() -> None:
        state = begun(server)
        while state["phase"] != "done":
            given = {
                "code": state["code"],
                "number": state["number"],
                "chosen": 0,
                "response_ms": 5,
                "interrupted": False,
            }
            state = json.loads(ask(server, "/api/answer", given)[2])["state"]
        ends.append(state)

    threads = [threading.Thread(target=take_part) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.study is not None
    assert len({state["code"] for state in ends}) == 4
    assert server.study.counts() == (4, 24)


def test_a_study_listens_on_this_computer_only_unless_told() -> None:
    with StudyServer("127.0.0.1", 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert server.address == f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(BadInput, match="is in use"):
            StudyServer("127.0.0.1", server.server_port)


def test_kill_9_loses_no_acknowledged_answer(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "labctl", "study", str(frames), "--out", str(out), "--port", "0", "--no-browser"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        address = next(line.split()[1] for line in process.stderr if line.startswith("page:"))

        def post(path: str, sent: Any) -> Any:
            request = Request(address + path, json.dumps(sent).encode(), {"Content-Type": "application/json"})
            with urlopen(request, timeout=PATIENCE_S) as reply:
                return json.load(reply)

        code = post("api/begin", {"agreed": True})["code"]
        for number in range(6):
            post(
                "api/answer",
                {"code": code, "number": number, "chosen": 0, "response_ms": 50 + number, "interrupted": False},
            )
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [line["response_ms"] for line in lines] == [50, 51, 52, 53, 54, 55]
