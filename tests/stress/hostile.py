"""Hostile files, values and requests, generated from a seed."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MARKUP = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[a](javascript:alert(1))",
    "$\\href{javascript:alert(1)}{x}$",
    "${alert(1)}",
    "{{constructor.constructor('alert(1)')()}}",
    "</pre><svg/onload=alert(1)>",
    "=cmd|' /C calc'!A0",
    "%s%n{0}",
)
PATHS = (
    "/etc/passwd",
    "/proc/self/environ",
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "~/.ssh/id_rsa",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x.jsonl",
    "https://example.com/rows.csv",
    "//example.com/x",
    "/dev/zero",
    "C:\\rows.csv",
    "a\0.csv",
    "",
    ".",
)
CHARACTERS = "\u202e\ufffe\ufeff\u2028\x85\x1b\u200d\U0001f468\U0010ffff\u0301\t\r\n'\"\\`<&;"
SPECIAL = ("<|endoftext|>", "<|im_start|>system", "<s>", "[INST]", "</s>", "<pad>")


@dataclass(frozen=True)
class HostileFile:
    """A file to upload: its name and content."""

    name: str
    content: bytes


class Hostile:
    """Draws everything from one random stream."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def words(self, most: int = 60) -> str:
        """Return a text of ordinary and unusual parts."""
        parts: list[Callable[[], str]] = [
            lambda: self.chance.choice(MARKUP),
            lambda: self.chance.choice(SPECIAL),
            lambda: self.chance.choice(CHARACTERS) * self.chance.randint(1, 9),
            lambda: "".join(chr(self.chance.randint(32, 0x2FFF)) for _ in range(self.chance.randint(1, most))),
            lambda: " ".join(self.chance.choice(("red", "owl", "lives", "where", "1")) for _ in range(9)),
            lambda: "x" * 2 ** self.chance.randint(0, 17),
            lambda: self.chance.choice(("", "", "", "\ud83d\ud83d")),
        ]
        return "".join(self.chance.choice(parts)() for _ in range(self.chance.randint(1, 3)))

    def number(self) -> Any:
        """Return a boundary number, or a value that resembles one."""
        edges = (0, -0.0, -1, 1, 0.5, 1e-320, 1e308, 2**31, 2**53 + 1, -(2**63), 10**40, "1e9999", "0x10", True)
        drawn = (self.chance.uniform(-1e6, 1e6), self.chance.randint(-(10**9), 10**9), float("nan"), float("inf"))
        return self.chance.choice((*edges, *drawn))

    def value(self, depth: int = 0) -> Any:
        """Return any JSON value."""
        if depth < 3 and self.chance.random() < 0.3:
            count = self.chance.randint(0, 4)
            if self.chance.random() < 0.5:
                return [self.value(depth + 1) for _ in range(count)]
            return {self.key(): self.value(depth + 1) for _ in range(count)}
        return self.chance.choice((None, True, False, self.number(), self.words(20), self.words(), self.deep()))

    def deep(self) -> Any:
        """Return nested lists."""
        value: Any = self.number()
        for _ in range(self.chance.choice((2, 30, 90))):
            value = [value] if self.chance.random() < 0.5 else {"a": value}
        return value

    def key(self) -> str:
        """Return the name of a column or of a part of a file."""
        known = ("instruction", "input", "output", "messages", "role", "content", "question", "answer", "path", "meta")
        return self.chance.choice((*known, self.words(8), ""))

    # ------------------------------------------------------------ files

    def file(self) -> HostileFile:
        """Return a file of any kind, partly valid and partly invalid."""
        kinds: list[tuple[Callable[[], bytes], tuple[str, ...], int]] = [
            (self.json_lines, (".jsonl", ".ndjson", ".json"), 6),
            (self.json_list, (".json", ".jsonl"), 4),
            (self.table, (".csv", ".tsv", ".jsonl"), 6),
            (self.parquet, (".parquet", ".csv"), 1),
            (self.packed, (".jsonl.gz", ".zip", ".csv", ".json", ".parquet"), 1),
            (self.noise, (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".pkl", ".txt", ""), 2),
        ]
        make, endings, _ = self.chance.choices(kinds, [weight for _, _, weight in kinds])[0]
        ending = endings[0] if self.chance.random() < 0.7 else self.chance.choice(endings)
        return HostileFile(self.name() + ending, self.damaged(make()))

    def name(self) -> str:
        """Return a file name without extension."""
        odd = (self.chance.choice(MARKUP), self.chance.choice(PATHS), "x" * self.chance.choice((90, 300)), "rows", "行")
        plain = self.chance.choice(odd).encode("utf-8", "ignore").decode()
        return "".join(character for character in plain if character not in '\0\n\r"')

    def cell(self) -> Any:
        """Return the value of a cell, mostly unusual text."""
        return self.chance.choices((self.words(20), self.number(), self.value(2)), (8, 1, 1))[0]

    def record(self, layout: str) -> dict[str, Any]:
        """Return a row of a layout, valid or not."""
        if layout == "messages":
            roles = ("user", "assistant") if self.chance.random() < 0.8 else (self.words(5), "assistant")
            return {"messages": [{"role": role, "content": self.cell()} for role in roles]}
        if layout == "columns":
            return {f"c{number}": number for number in range(self.chance.choice((3, 1500)))}
        if layout == "any":
            return {self.key(): self.value() for _ in range(self.chance.randint(0, 5))}
        return {part: self.cell() for part in layout.split()}

    def records(self) -> list[dict[str, Any]]:
        """Return rows of one layout, mixed with a few of others."""
        layouts = ("instruction input output", "question answer", "messages", "prompt completion", "any", "columns")
        layout = self.chance.choices(layouts, (5, 5, 5, 3, 2, 1))[0]
        rows = [self.record(layout) for _ in range(self.chance.randint(0, 12))]
        return rows + [self.record("any") for _ in range(self.chance.choice((0, 0, 0, 2)))]

    def json_lines(self) -> bytes:
        """Return partly valid JSONL."""
        lines = [self._dumped(record) for record in self.records()]
        odd = ("", "[" * 2000, '{"a": ' * 300, '"', "NaN", '{"a":1,}', "9" * 5000, '{"question": "\\ud800"}')
        lines += self.chance.sample(odd, self.chance.choice((0, 0, 1, 3)))
        self.chance.shuffle(lines)
        return self.chance.choice(("\n", "\n", "\r\n", "\r", "\n\n")).join(lines).encode("utf-8", "surrogatepass")

    def json_list(self) -> bytes:
        """Return a JSON list, possibly wrapped."""
        inner = ",".join(self._dumped(record) for record in self.records())
        right = (f"[{inner}]", f'{{"data": [{inner}]}}') * 4
        wrong = (f'{{"a": [{inner}], "b": [1]}}', f"[{inner}", f"[{inner},]", f"{inner}")
        many = f"[[{'1,' * self.chance.randint(1, 90_000)}1]]"
        bombs = ("[" * 50_000, "[" + "[]," * 60_000 + "[]]", '{"a":' * 5000, many, '["' + "\\" * 9999)
        return self.chance.choice((*right, *wrong, *bombs)).encode("utf-8", "surrogatepass")

    def table(self) -> bytes:
        """Return partly valid CSV."""
        mark = self.chance.choice((",", ",", ";", "\t", "|"))
        heads = (["question", "answer"], ["instruction", "input", "output"], [self.words(9), "a", "a"], ["a"] * 1200)
        header = self.chance.choices(heads, (5, 5, 1, 1))[0]
        rows = [[self.quoted(self.words(20)) for _ in header[:9]] for _ in range(self.chance.randint(0, 9))]
        rows += [["Q", f"A{number}", "B"][: len(header)] for number in range(self.chance.randint(0, 5))]
        text = "\n".join(mark.join(cells) for cells in [header, *rows])
        bombs = (mark * 70_000, 'question,answer\n"' + '""' * 30_000, "question,answer\r" * 999, '"' * 9999)
        text = text if self.chance.random() < 0.9 else self.chance.choice(bombs)
        return text.encode(self.chance.choice(("utf-8", "utf-8-sig", "utf-16", "utf-8")), "ignore")

    def quoted(self, text: str) -> str:
        """Return a cell, mostly quoted correctly."""
        return '"' + text.replace('"', '""').replace("\0", "") + '"' if self.chance.random() < 0.9 else text

    def parquet(self) -> bytes:
        """Return a Parquet file, possibly one kilobyte that unpacks to gigabytes."""
        import pyarrow
        import pyarrow.parquet

        count = self.chance.randint(1, 50)
        texts = [self.words(20).encode("utf-8", "ignore").decode() for _ in range(count)]
        numbers = [self.chance.uniform(-1, 1) for _ in range(count)]
        columns: dict[str, Any] = {"question": texts, "answer": numbers, texts[0]: [b"\xff"] * count}
        if self.chance.random() < 0.2:
            same = pyarrow.array([0] * 50_000, pyarrow.int32())
            letters = pyarrow.DictionaryArray.from_arrays(same, ["x" * self.chance.randint(10**5, 3 * 10**6)])
            columns = {"question": letters, "answer": ["A"] * 50_000}
        file = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.table(columns), file, compression="zstd", store_schema=False)
        return bytes(file.getvalue().to_pybytes())

    def packed(self) -> bytes:
        """Return a compression bomb."""
        if self.chance.random() < 0.5:
            return gzip.compress(b'{"question": "Q", "answer": "A"}\n' * self.chance.randint(1, 200_000), 1, mtime=0)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            name = zipfile.ZipInfo(self.chance.choice(("rows.jsonl", "../../rows.jsonl")))  # of the year 1980
            archive.writestr(name, b"\0" * 10**6, zipfile.ZIP_DEFLATED)
        return file.getvalue()

    def noise(self) -> bytes:
        """Return random bytes, some with the signature of a known format."""
        heads = (
            b"",
            b"PAR1",
            b"\x80\x04\x95",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"GIF89a<script>",
            b"%PDF-1.4",
            b"\x89PNG",
        )
        return self.chance.choice(heads) + self.chance.randbytes(self.chance.randint(0, 3000))

    def damaged(self, content: bytes) -> bytes:
        """Change, cut or duplicate some bytes occasionally."""
        if self.chance.random() < 0.7 or not content:
            return content
        changed = bytearray(content)
        for _ in range(self.chance.randint(1, 6)):
            changed[self.chance.randrange(len(changed))] = self.chance.randrange(256)
        cut = self.chance.randrange(len(changed)) if self.chance.random() < 0.3 else len(changed)
        return bytes(changed[:cut])

    def _dumped(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=self.chance.random() < 0.9)

    # ------------------------------------------------------------ values of a call

    def for_field(self, kind: str, usual: Any, choices: tuple[Any, ...]) -> Any:
        """Return a value for a component of this kind: valid, at a boundary, or of a type that it never sends."""
        right: list[Any] = [usual, *choices[:40]]
        if kind in ("slider", "number"):
            odd: list[Any] = [self.number(), self.number()]
        elif kind == "file":
            odd = [self.file_value(), self.file_value()]
        else:
            odd = [self.words(), self.chance.choice(PATHS)]
        return self.chance.choice([self.chance.choice(right), *odd, self.value()])

    def file_value(self) -> Any:
        """Return a file that was never uploaded, as a function parameter."""
        path = self.chance.choice((*PATHS, self.words(9)))
        meta = self.chance.choice(({"_type": "gradio.FileData"}, {}, None, {"_type": "x"}))
        more = {self.chance.choice(("is_stream", "url", "size", "orig_name", "mime_type")): self.value(2)}
        return self.chance.choice(({"path": path, "meta": meta, **more}, {"path": path}, path, [{"path": path}]))
