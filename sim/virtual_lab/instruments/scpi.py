"""The language: headers in short and long form, IEEE 488.2 common commands, the error queue. [SCPI-99, IEEE 488.2]"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable

Handler = Callable[[list[str]], str | None]
"""Takes the parameters; a query returns its answer, a command None."""

QUEUE_LENGTH = 20


class ScpiError(Exception):
    """A standard error: what a command ends with that cannot be carried out."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


class ScpiInstrument:
    """An instrument without a transport: `execute` takes a line and gives the answer.

    commands: header pattern as manuals print it, `SOURce:POWer[:LEVel]?`, and what it does. Capitals are the short
    form; parts in brackets may be left out.
    """

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.errors: deque[tuple[int, str]] = deque(maxlen=QUEUE_LENGTH)
        self.lock = threading.RLock()
        self._event_status = 0
        self._enabled = {"*ESE": 0, "*SRE": 0}
        self._commands: list[tuple[re.Pattern[str], Handler]] = []
        for header, handler in self.common_commands().items():
            self.add(header, handler)

    def common_commands(self) -> dict[str, Handler]:
        """What every instrument understands."""
        return {
            "*IDN?": lambda _: self.identity,
            "*RST": lambda _: self.reset(),
            "*CLS": lambda _: self._clear_status(),
            "*OPC": lambda _: self._note(0x01),
            "*OPC?": lambda _: "1",
            "*WAI": lambda _: None,
            "*TST?": lambda _: "0",
            "*ESR?": lambda _: self._take_event_status(),
            "*ESE": lambda given: self._enable("*ESE", given),
            "*ESE?": lambda _: str(self._enabled["*ESE"]),
            "*SRE": lambda given: self._enable("*SRE", given),
            "*SRE?": lambda _: str(self._enabled["*SRE"]),
            "*STB?": lambda _: str(self.status_byte()),
            "SYSTem:ERRor[:NEXT]?": lambda _: self._next_error(),
            "SYSTem:VERSion?": lambda _: "1999.0",
        }

    def add(self, header: str, handler: Handler) -> None:
        """Teach it one more command."""
        self._commands.append((header_pattern(header), handler))

    def reset(self) -> None:
        """What `*RST` does."""

    def execute(self, line: str) -> str | None:
        """Carry out the commands in `line`, separated by `;`; the answers of its queries, or None without one."""
        answers = []
        path = ""
        with self.lock:
            for unit in _outside_quotes(line, ";"):
                if not unit.strip():
                    continue
                header, _, rest = unit.strip().partition(" ")
                parameters = [text.strip() for text in _outside_quotes(rest, ",")] if rest.strip() else []
                whole = header if header[0] in ":*" else path + header
                if not header.startswith("*"):
                    path = whole.rpartition(":")[0].lstrip(":") + ":" if ":" in whole.lstrip(":") else ""
                try:
                    answer = self._handler(whole)(parameters)
                except ScpiError as error:
                    self.complain(error.number, str(error))
                    continue
                if answer is not None:
                    answers.append(answer)
        return ";".join(answers) if answers else None

    def complain(self, number: int, text: str) -> None:
        """Put an entry into the error queue; a full queue says so in its last entry."""
        with self.lock:
            bits = {1: 0x20, 2: 0x10, 3: 0x08, 4: 0x04}
            self._note(bits.get(abs(number) // 100, 0x08))
            if len(self.errors) == QUEUE_LENGTH:
                self.errors[-1] = (-350, "Queue overflow")
            else:
                self.errors.append((number, text))

    def status_byte(self) -> int:
        """Error queue not empty: bit 2; enabled events: bit 5; request for service: bit 6."""
        status = (0x04 if self.errors else 0) | (0x20 if self._event_status & self._enabled["*ESE"] else 0)
        return status | (0x40 if status & self._enabled["*SRE"] else 0)

    def _handler(self, header: str) -> Handler:
        for pattern, handler in self._commands:
            if pattern.fullmatch(header.upper()):
                return handler
        raise ScpiError(-113, "Undefined header")

    def _note(self, bit: int) -> None:
        self._event_status |= bit

    def _take_event_status(self) -> str:
        status, self._event_status = self._event_status, 0
        return str(status)

    def _clear_status(self) -> None:
        self.errors.clear()
        self._event_status = 0

    def _enable(self, register: str, given: list[str]) -> None:
        self._enabled[register] = int(number(given, 0, 255))

    def _next_error(self) -> str:
        code, text = self.errors.popleft() if self.errors else (0, "No error")
        return f'{code:+d},"{text}"'


def header_pattern(header: str) -> re.Pattern[str]:
    """`SOURce:POWer[:LEVel]?` as a pattern for headers in capitals, with or without a leading colon."""
    query = header.endswith("?")
    text = "" if header.startswith("*") else ":?"
    for part in re.findall(r"\[|\]|:|\*|[A-Z]+|[a-z]+", header.removesuffix("?")):
        if part.islower():
            text += f"(?:{part.upper()})?"
        else:
            text += {"[": "(?:", "]": ")?", "*": r"\*"}.get(part, part)
    return re.compile(text + (r"\?" if query else ""))


def number(given: list[str], low: float, high: float) -> float:
    """The only parameter, as a number from low to high."""
    word = _only(given)
    try:
        value = float(word)
    except ValueError:
        raise ScpiError(-104, "Data type error") from None
    if not low <= value <= high:
        raise ScpiError(-222, "Data out of range")
    return value


def switch(given: list[str], words: dict[str, bool]) -> bool:
    """The only parameter, as one of `words` (in capitals), or 1 or 0."""
    word = _only(given).upper()
    if word in ("0", "1"):
        return word == "1"
    if word not in words:
        raise ScpiError(-224, "Illegal parameter value")
    return words[word]


def _only(given: list[str]) -> str:
    if not given:
        raise ScpiError(-109, "Missing parameter")
    if len(given) > 1:
        raise ScpiError(-108, "Parameter not allowed")
    return given[0]


def _outside_quotes(text: str, mark: str) -> list[str]:
    """`text` cut at every `mark` that does not stand in quotes."""
    return re.split(rf"{mark}(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", text)
