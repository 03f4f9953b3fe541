"""Classes: students join with a teacher's code and see each other's studies, labelled by student number.

A class is a small file with the hashes of its students' keys. It shows the studies that students started after joining,
and none of a student who has left.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from neftune_core.bounded_io import read_file, read_json
from neftune_core.durable import claiming, write_whole
from neftune_core.errors import RecordError
from neftune_core.home import home
from neftune_core.language import later, say
from neftune_core.studies.records.owners import owner_hash, owner_of, record_folders
from neftune_core.studies.records.record import Record, runs_folder

LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # without characters that are easily confused
CODE = re.compile(f"[{LETTERS}]{{6}}")
LIFETIME_DAYS = 7
MOST_CLASSES, MOST_OF_TEACHER = 200, 5
MOST_STUDENTS, MOST_STUDIES = 120, 20
"""Maximum number of students in a class, and of studies shown per student."""
MOST_BYTES = 100_000
PATIENCE_SECONDS = 5.0
"""How long a change waits for another one to finish."""
DAY_SECONDS = 24 * 3600
NO_CLASS = later("There is no class with the code {code} here: the code is mistyped, or the class has ended.")


@dataclass(frozen=True)
class Student:
    """A student of a class.

    Attributes:
        number: Random number, unique in the class.
        since: Time of joining, in seconds since 1970.
    """

    number: int
    since: float


@dataclass(frozen=True)
class Classroom:
    """A class of students who see each other's studies.

    Attributes:
        code: Code for joining.
        teacher: Hash of the teacher's key.
        created: Time of creation, in seconds since 1970.
        students: The students, by the hashes of their keys.
    """

    code: str
    teacher: str
    created: float
    students: dict[str, Student]

    def is_of(self, owner: str) -> bool:
        """Return whether the visitor with this key created the class."""
        return bool(owner) and owner_hash(owner) == self.teacher

    def student(self, owner: str) -> Student | None:
        """Return the student with this key, or None."""
        return self.students.get(owner_hash(owner)) if owner else None

    def records(self) -> list[tuple[int, Record]]:
        """Return student numbers and records, newest first: at most `MOST_STUDIES` per student, and no sweeps."""
        found: list[tuple[int, Record]] = []
        counts = Counter[int]()
        for folder in record_folders(runs_folder()):
            student, record = self.students.get(owner_of(folder) or ""), Record(folder)
            if student is None or counts[student.number] >= MOST_STUDIES:
                continue
            if record.about.get("created", 0) >= student.since and not record.is_sweep:
                counts[student.number] += 1
                found.append((student.number, record))
        return found


def make_class(owner: str) -> str:
    """Create a class for a teacher and return its code.

    Raises:
        RecordError: If there are too many classes, or the classes are being changed elsewhere.
    """
    with _locked():
        every = [found for path in _folder().glob("*.json") if (found := _read(path.stem)) is not None]
        mine = [found.code for found in every if found.is_of(owner)]
        if len(mine) >= MOST_OF_TEACHER:
            words = later("You already have {count} classes: end one of {codes}.")
            raise RecordError(say(words, count=len(mine), codes=", ".join(mine)))
        if len(every) >= MOST_CLASSES:
            raise RecordError(say("This server has no room for another class: try again tomorrow."))
        codes = ("".join(secrets.choice(LETTERS) for _ in range(6)) for _ in count())
        code = next(code for code in codes if all(code != found.code for found in every))
        _write(Classroom(code, owner_hash(owner), round(time.time(), 3), {}))
        return code


def find_class(code: str) -> Classroom:
    """Find a class by its code, in upper or lower case.

    Raises:
        RecordError: If there is no such class.
    """
    code = code.strip().upper()[:20]
    found = _read(code) if CODE.fullmatch(code) else None
    if found is None:
        raise RecordError(say(NO_CLASS, code=code))
    return found


def join_class(code: str, owner: str) -> int:
    """Join a class.

    Args:
        code: Code of the class, in upper or lower case.
        owner: Key of the student.

    Returns:
        The student's number.

    Raises:
        RecordError: If there is no such class, or it is full.
    """
    with _changed(code) as found:
        known = found.student(owner)
        if known is not None:
            return known.number
        if len(found.students) >= MOST_STUDENTS:
            raise RecordError(say("This class is full: it has {count} students.", count=MOST_STUDENTS))
        taken = {student.number for student in found.students.values()}
        number = secrets.choice([one for one in range(1, 2 * MOST_STUDENTS) if one not in taken])
        found.students[owner_hash(owner)] = Student(number, round(time.time(), 3))
        return number


def leave_class(code: str, owner: str) -> None:
    """Leave a class, which then stops showing the student's studies.

    Args:
        code: Code of the class, in upper or lower case.
        owner: Key of the student.

    Raises:
        RecordError: If there is no such class.
    """
    with _changed(code) as found:
        found.students.pop(owner_hash(owner), None)


def end_class(code: str, owner: str) -> None:
    """End a class; its studies remain with their owners.

    Args:
        code: Code of the class, in upper or lower case.
        owner: Key of the teacher.

    Raises:
        RecordError: If there is no such class, or another visitor created it.
    """
    with _locked():
        found = find_class(code)
        if not found.is_of(owner):
            raise RecordError(say("Only the teacher who created a class can end it."))
        _path(found.code).unlink(missing_ok=True)


@contextmanager
def _changed(code: str) -> Iterator[Classroom]:
    """Yield a class to be changed, and write it at the end of the block."""
    with _locked():
        found = find_class(code)
        yield found
        _write(found)


@contextmanager
def _locked() -> Iterator[None]:
    """Lock the classes of this server during a change.

    Raises:
        RecordError: If the classes are being changed elsewhere.
    """
    _folder().mkdir(parents=True, exist_ok=True)
    with claiming(_folder() / "lock", PATIENCE_SECONDS) as is_mine:
        if not is_mine:
            raise RecordError(say("Someone else is changing a class on this server: try again in a moment."))
        yield


def _folder() -> Path:
    return home() / "classes"


def _path(code: str) -> Path:
    return _folder() / f"{code}.json"


def _write(room: Classroom) -> None:
    students = {key: [student.number, student.since] for key, student in room.students.items()}
    about = {"teacher": room.teacher, "created": room.created, "students": students}
    write_whole(_path(room.code), json.dumps(about))


def _read(code: str) -> Classroom | None:
    """Return a class; None if it is unreadable or has expired. The file of an expired class is removed."""
    try:
        about: dict[str, Any] = read_json(read_file(_path(code), MOST_BYTES), MOST_BYTES)
        students = {key: Student(int(number), float(since)) for key, (number, since) in about["students"].items()}
        found = Classroom(code, about["teacher"], float(about["created"]), students)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if time.time() - found.created > LIFETIME_DAYS * DAY_SECONDS:
        _path(code).unlink(missing_ok=True)
        return None
    return found
