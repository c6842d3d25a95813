"""The text that participants agree to before anything is recorded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labctl.errors import BadInput

DEFAULT = Path(__file__).with_name("consent.txt")

MOST_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Consent:
    """A plain text. Blank lines part paragraphs; lines with `# ` are headings, those with `- ` entries of a list."""

    text: str

    @property
    def sha256(self) -> str:
        """What is kept with every participant: which text it was."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def blocks(self) -> list[Block]:
        """How the page shows it."""
        blocks: list[Block] = []
        open_kind: str | None = None
        for line in self.text.splitlines():
            stripped = line.strip()
            if not stripped:
                open_kind = None
            elif stripped.startswith("# "):
                blocks.append(Block("heading", [stripped[2:].strip()]))
                open_kind = None
            elif stripped.startswith("- "):
                if open_kind != "list":
                    blocks.append(Block("list", []))
                blocks[-1].lines.append(stripped[2:].strip())
                open_kind = "list"
            elif open_kind in ("paragraph", "list"):
                blocks[-1].lines[-1] += f" {stripped}"
            else:
                blocks.append(Block("paragraph", [stripped]))
                open_kind = "paragraph"
        return blocks


@dataclass(frozen=True)
class Block:
    """A heading or a paragraph of one line, or a list of several."""

    kind: Literal["heading", "paragraph", "list"]
    lines: list[str]


def read_consent(path: Path | None) -> Consent:
    """The text in `path`, or the one that labctl brings along. Raises BadInput when it cannot be read or is empty."""
    file = DEFAULT if path is None else path.expanduser()
    try:
        data = file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"--consent {path} cannot be read: {error.strerror}; give a text file") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"--consent {path} is no UTF-8 text ({error.reason}); save it as plain text in UTF-8") from error
    if not text.strip() or len(data) > MOST_BYTES:
        said = "is empty" if not text.strip() else f"has {len(data)} bytes, {MOST_BYTES} are allowed"
        raise BadInput(f"--consent {path} {said}; give the text that participants shall agree to")
    return Consent(text)
