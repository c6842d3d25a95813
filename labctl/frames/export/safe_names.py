"""Names of folders that every file system takes, from labels that somebody wrote."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

NAME_BYTES = 120
"""UTF-8 bytes of the longest name; the strictest of the usual file systems (eCryptfs) takes 143."""

HASH_DIGITS = 10


def safe_names(labels: Iterable[str]) -> dict[str, str]:
    """A folder name for every label: unicode stays where it is allowed, and no two names are equal.

    A label that had to be changed, or that a file system may not tell from another one (case, accents composed or
    not), gets a hash of the label at its end. The names do not depend on the order of the labels.
    """
    labels = list(dict.fromkeys(labels))
    cleaned = {label: _cleaned(label) for label in labels}
    alike = Counter(_folded(name) for name in cleaned.values())
    return {
        label: name if name == label and alike[_folded(name)] == 1 else f"{_cut(name)}-{_hash(label)}"
        for label, name in cleaned.items()
    }


_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_CONTROL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _cleaned(label: str) -> str:
    """`label` without what Windows, macOS or Linux forbid in a name, or hide."""
    text = "".join("_" if unicodedata.category(sign) in _CONTROL else sign for sign in label)
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text)).strip(" ").rstrip(". ")
    if not name or name[0] in ".-" or _RESERVED.fullmatch(name):
        name = f"_{name.lstrip('.-')}"
    return name if len(name.encode()) <= NAME_BYTES else _cut(name)


def _cut(name: str) -> str:
    """At most so many bytes that a hash can follow; no letter is cut in two."""
    return name.encode()[: NAME_BYTES - HASH_DIGITS - 1].decode(errors="ignore").rstrip(". ")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())


def _hash(label: str) -> str:
    return hashlib.sha256(label.encode(errors="surrogatepass")).hexdigest()[:HASH_DIGITS]
