"""The local web server of a study: its page, pictures that no cache keeps, and answers."""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import re
import socket
import socketserver
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

from labctl import __version__
from labctl.errors import BadInput, LabctlError
from labctl.study.conduct import Study, minutes
from labctl.study.settings import Given

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

PAGE = Path(__file__).with_name("page")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/study.css": ("study.css", "text/css; charset=utf-8"),
    "/study.js": ("study.js", "text/javascript; charset=utf-8"),
}

MOST_BYTES = 16 * 2**10
"""Of a request; an answer has some hundred."""

IDLE_S = 120.0

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""No picture stays in a cache, nothing is loaded from elsewhere, and no other page may show or read what is here."""


class StudyServer(ThreadingHTTPServer):
    """Listens once it is made; `hold` gives it a study, `serve_forever` serves.

    It answers only requests that name this computer or an address, so that a page from elsewhere whose name was
    pointed here gets nothing. Raises BadInput when the port is in use or the address is none of this computer.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.study: Study | None = None
        self.host = host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES):
                used = error.errno == errno.EADDRINUSE  # type: ignore[union-attr]
                why = "is in use" if used else "may not be used by this user"
                raise BadInput(f"--port {port} {why}; give another, or --port 0 for any that is free") from None
            raise BadInput(f"--host {host}: {error}; give an address of this computer, such as {LOOPBACK}") from None

    def server_bind(self) -> None:
        """Bind, without the look-up of a host name that the library does here and that may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def address(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_port}/"

    def hold(self, study: Study) -> None:
        """Serve this study."""
        self.study = study

    def named_rightly(self, host: str | None) -> bool:
        """Whether a request was sent to a name that can only mean this computer. host: as the request says it."""
        name = re.sub(r":\d+$", "", host or "").strip("[]").lower()
        if name in ("localhost", self.host):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""
        log.debug("a connection of %s ended", client_address)


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Refused(Exception):
    """A request that gets no answer but a status and a sentence."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class _Handler(BaseHTTPRequestHandler):
    server: StudyServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = f"labctl/{__version__}", ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    def _answer(self, work: Any) -> None:
        try:
            if not self.server.named_rightly(self.headers.get("Host")):
                raise _Refused(HTTPStatus.FORBIDDEN, "this page is for this computer only")
            content, kind = work()
            self._send(HTTPStatus.OK, content, kind)
        except _Refused as refused:
            self._send_json(refused.status, {"error": refused.text})
        except KeyError:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "nobody has this code"})
        except BadInput as error:
            self._send_json(HTTPStatus.CONFLICT, {"error": str(error)})
        except (LabctlError, OSError) as error:
            log.error("the study cannot go on: %s", error)
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})

    def _get(self) -> tuple[bytes, str]:
        address = urlsplit(self.path)
        if address.path in FILES:
            name, kind = FILES[address.path]
            return (PAGE / name).read_bytes(), kind
        study = self._study()
        if address.path == "/api/about":
            return _json(_about(study))
        if address.path == "/api/state":
            return _json(study.state(parse_qs(address.query).get("code", [""])[0]))
        picture = _PICTURE.fullmatch(address.path)
        if picture:
            code, number, what = picture.groups()
            return study.picture(code, int(number), None if what == "frame" else int(what)), "image/png"
        raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self) -> tuple[bytes, str]:
        sent, study = self._sent(), self._study()
        if self.path == "/api/begin":
            if not isinstance(sent, dict) or sent.get("agreed") is not True:
                raise _Refused(HTTPStatus.BAD_REQUEST, "nobody begins without having agreed")
            return _json(study.state(study.begin()))
        if self.path == "/api/answer":
            try:
                given = Given.model_validate(sent)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise _Refused(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}") from None
            return _json(study.answer(given))
        if self.path == "/api/withdraw":
            study.withdraw(str(sent.get("code")) if isinstance(sent, dict) else "")
            return _json({"withdrawn": True})
        raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _sent(self) -> Any:
        """The JSON of a request. Only JSON: a form of another page cannot send it."""
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > MOST_BYTES:
            self.close_connection = True  # what it sends is left unread
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_BYTES} bytes may be sent")
        data = self.rfile.read(int(size))
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "only JSON is taken")
        try:
            return json.loads(data)
        except ValueError:
            raise _Refused(HTTPStatus.BAD_REQUEST, "this is no JSON") from None

    def _study(self) -> Study:
        if self.server.study is None:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the study begins in a moment")
        return self.server.study

    def _send_json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, *_json(value))

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


_PICTURE = re.compile(r"/picture/([A-Z]{1,40})/(\d{1,5})/(frame|\d)\.png")


def _about(study: Study) -> dict[str, Any]:
    """What the first page says."""
    settings = study.material.settings
    return {
        "consent": [asdict(block) for block in study.material.consent.blocks],
        "question": settings.question,
        "trials": settings.trials,
        "practice": settings.practice,
        "choices": settings.choices,
        "minutes": minutes(settings),
    }


def _json(value: Any) -> tuple[bytes, str]:
    return json.dumps(value, allow_nan=False).encode(), "application/json"
