"""The folder of a study: who took part, and every answer, safe before it is acknowledged. It holds no picture."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import ValidationError

from labctl.durable import append_line, read_lines, write_json, write_whole
from labctl.errors import BadInput, RunFailed
from labctl.study.settings import Answer, Participant, SetFacts, StudySettings, dump

SCHEMA = "labctl.study/1"
STUDY, PARTICIPANTS, ANSWERS, TABLE, LOCK = (
    "study.json", "participants.jsonl", "answers.jsonl", "answers.csv", ".study.lock",
)  # fmt: skip

COLUMNS = (
    "participant", "trial", "set", "design", "sample_id", "true_label", "choices", "references", "chosen", "correct",
    "response_ms", "interrupted", "time", "blurriness", "seed",
)  # fmt: skip
"""Of `answers.csv`. choices and references: JSON lists in the order in which they stood on the page."""


class StudyFacts:
    """What makes a study this one: `study.json`, but for when and by which labctl it was made."""

    def __init__(self, settings: StudySettings, sets: Sequence[SetFacts], references: str, consent_sha256: str) -> None:
        self.settings, self.sets = settings, tuple(sets)
        self.references, self.consent_sha256 = references, consent_sha256

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "settings": dump(self.settings),
            "sets": [dump(one) for one in self.sets],
            "references": self.references,
            "consent_sha256": self.consent_sha256,
        }

    @classmethod
    def load(cls, value: dict[str, Any]) -> Self:
        """Raises ValidationError or KeyError for what is none."""
        return cls(
            StudySettings.model_validate(value["settings"]),
            [SetFacts.model_validate(one) for one in value["sets"]],
            value["references"],
            value["consent_sha256"],
        )

    def difference(self, other: StudyFacts) -> str | None:
        """In words, the first thing that is not the same; None for the same study."""
        for name in StudySettings.model_fields:
            own, theirs = getattr(self.settings, name), getattr(other.settings, name)
            if own != theirs:
                return f"--{name.replace('_', '-')} is {own!r} there and {theirs!r} here"
        if self.sets != other.sets:
            return f"it asks for {_in_words(self.sets)}, and not for {_in_words(other.sets)}"
        if self.references != other.references:
            return "its reference pictures are others"
        if self.consent_sha256 != other.consent_sha256:
            return "its participants consented to another text"
        return None


class Records:
    """Participants and answers of a study, as its files tell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / STUDY
        try:
            value = json.loads(path.read_text())
            if value["schema"] != SCHEMA:
                raise BadInput(f"{path} has schema {value['schema']!r}, this labctl reads {SCHEMA}")
            self.facts = StudyFacts.load(value)
        except FileNotFoundError:
            text = f"{folder} is no study (it has no {STUDY}); give the folder that `labctl study` wrote"
            raise BadInput(text) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{path} cannot be read ({type(error).__name__}: {error}); restore it from a copy"
            ) from error
        self.participants: dict[str, Participant] = {}
        self.withdrawn: set[str] = set()
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        try:
            self._read()
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise RunFailed(f"{folder}: its records are damaged ({error}); restore them from a copy") from error

    def rows(self) -> list[dict[str, Any]]:
        """One row per answered trial, by COLUMNS; practice is left out."""
        return [self._row(answer) for answers in self.answers.values() for answer in answers if answer.phase == "trial"]

    def _row(self, answer: Answer) -> dict[str, Any]:
        participant = self.participants[answer.participant]
        _, trial = participant.question(answer.number)
        asked = self.facts.sets[trial.group]
        return {
            "participant": answer.participant,
            "trial": answer.number - len(participant.practice) + 1,
            "set": asked.name,
            "design": trial.design,
            "sample_id": trial.sample_id,
            "true_label": trial.label,
            "choices": json.dumps([choice.label for choice in trial.choices], ensure_ascii=False),
            "references": json.dumps([choice.reference for choice in trial.choices], ensure_ascii=False),
            "chosen": trial.choices[answer.chosen].label,
            "correct": int(answer.correct),
            "response_ms": round(answer.response_ms, 1),
            "interrupted": int(answer.interrupted),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(answer.unix_time_s)),
            "blurriness": "" if answer.blurriness is None else round(answer.blurriness, 5),
            "seed": self.facts.settings.seed,
        }

    def _read(self) -> None:
        for line in read_lines(self.folder / PARTICIPANTS):
            if "withdrawn" in line:
                self.withdrawn.add(line["withdrawn"])
            else:
                participant = Participant.model_validate(line)
                self.participants[participant.code] = participant
        for code in self.withdrawn:
            self.participants.pop(code, None)
        for line in read_lines(self.folder / ANSWERS):
            answer = Answer.model_validate(line)
            if answer.participant in self.withdrawn:
                continue
            known = self.answers[answer.participant]
            if answer.participant not in self.participants or answer.number != len(known):
                raise ValueError(f"answer {answer.number} of {answer.participant} stands where it cannot")
            known.append(answer)


class StudyFolder(Records):
    """The folder while a study is held: one server writes it. Use as a context manager.

    Makes it, or goes on with it. Raises BadInput, before anything is written, when the folder holds another study or
    something else, or when another server holds it; RunFailed when its records are damaged or the disk refuses.
    """

    def __init__(self, folder: Path, facts: StudyFacts, consent: str) -> None:
        check_folder(folder, facts)
        self._lock = _claim(folder)
        try:
            if not (folder / STUDY).exists():
                from labctl import __version__

                made = {"created_unix_s": time.time(), "labctl": __version__}
                write_json(folder / STUDY, {"schema": SCHEMA, **facts.dump(), "consent": consent, **made})
            super().__init__(folder)
            self._forget()
            self._write_table()
        except OSError as error:
            self._lock.release()
            raise RunFailed(f"{folder} cannot be written: {error.strerror or error}; give another --out") from error
        except BaseException:
            self._lock.release()
            raise

    def add(self, participant: Participant) -> None:
        """Keep that somebody consented, and what will be asked; on the disk on return."""
        append_line(self.folder / PARTICIPANTS, dump(participant))
        self.participants[participant.code] = participant

    def answer(self, answer: Answer) -> None:
        """Keep an answer; on the disk on return, and only then to be acknowledged. Its row follows in the table."""
        append_line(self.folder / ANSWERS, dump(answer))
        self.answers[answer.participant].append(answer)
        if answer.phase == "trial":
            with (self.folder / TABLE).open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(self._row(answer))

    def withdraw(self, code: str) -> None:
        """Delete all answers of a participant, and what was asked; only the code stays, so that nothing comes back."""
        append_line(self.folder / PARTICIPANTS, {"withdrawn": code})
        self.withdrawn.add(code)
        self.participants.pop(code, None)
        self.answers.pop(code, None)
        self._forget()
        self._write_table()

    def close(self) -> None:
        """Let another server have the folder."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forget(self) -> None:
        """Take the lines of those who withdrew out of both files; a server killed in between is made up for here."""
        for name, key in ((ANSWERS, "participant"), (PARTICIPANTS, "code")):
            lines = read_lines(self.folder / name)
            kept = [line for line in lines if line.get(key) not in self.withdrawn]
            if len(kept) < len(lines):
                write_whole(self.folder / name, "".join(json.dumps(line) + "\n" for line in kept))

    def _write_table(self) -> None:
        """The table is a view of the answers: made anew when a server begins, it mends what a killed one left."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        write_whole(self.folder / TABLE, text.getvalue())


def check_folder(folder: Path, facts: StudyFacts) -> None:
    """Raise BadInput unless `folder` is new, empty, or holds this very study. Writes nothing."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"--out {folder} is a file; give a folder")
    if (folder / STUDY).exists():
        difference = Records(folder).facts.difference(facts)
        if difference is not None:
            raise BadInput(
                f"--out {folder} holds another study: {difference}; give another folder, or the same settings"
            )
    elif any(item.name != LOCK for item in folder.iterdir()):
        raise BadInput(f"--out {folder} holds something else, and no study; give a new or empty folder")


def _claim(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout:
        raise BadInput(f"--out {folder}: another `labctl study` holds it; use its page, or end it first") from None
    except OSError as error:
        raise BadInput(f"--out {folder} cannot be written: {error.strerror or error}; give another folder") from error
    return lock


def _in_words(sets: Sequence[SetFacts]) -> str:
    return ", ".join(f"{one.name} ({one.set_id[:12]}, {one.frames} frames)" for one in sets)
