"""Lines of text to records: dictionaries, verl's lines, tables, and lines of keys and values, with
any other output before, between and behind them.

A format of lines is a function from a line to a row, or None where the line is not of that form.
Nothing of a log is evaluated.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rlvrlib.practice.quantities import CLOCK, STEP, meaning
from rlvrlib.practice.records import MAX_LINE, Notes, Record, Row, json_value

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_RAY = re.compile(r"\([\w.:<>{}\[\]\- ]{0,80}pid=\d+[^()]{0,80}\) ?")
_RANK = re.compile(r"\W{0,3}(?:rank|default|local_rank)\W{0,2}(\d{1,6})\b\]?\s*[:|,\-]?\s*", re.I)
_TIME = re.compile(r"\W{0,2}\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*Z?\W{0,2}")
_NUMBER = r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)\b"

# ---- dictionaries, of JSON or of Python

_PAIR = re.compile(
    r"""(?P<quote>['"])(?P<key>[^'"]{1,200})(?P=quote)\s*:\s*"""
    r"""(?P<value>'[^']*'|"[^"]*"|[\w.]*\([^()]{0,80}\)|[^,{}\[\]]+)"""
)
_LITERAL = re.compile(r"\b(?:nan|inf|None|True|False)\b")
_JSON = {"nan": "NaN", "inf": "Infinity", "None": "null", "True": "true", "False": "false"}
_OPENS = re.compile(r"\{\s*(?:['\"][^'\"]{1,200}['\"]\s*:[^}]*)?$")
_GOES_ON = re.compile(r"['\"]\s*:|^[\s\d.,\[\]{}()'\"eE+-]*$")
_MOST_LINES = 5000  # of one dictionary


def dictionary_row(line: str) -> Row | None:
    """``{'loss': '0.1', 'reward': 0.5}``, wherever it stands in the line."""
    opening, closing = line.find("{"), line.rfind("}")
    if not 0 <= opening < closing:
        return None
    text = line[opening : closing + 1]
    row = json_value(text) if '"' in text else None
    if not isinstance(row, dict):
        plain = text.replace("'", '"') if '"' not in text and "\\" not in text else ""
        if plain and not isinstance(row := json_value(plain), dict):
            row = json_value(_LITERAL.sub(lambda found: _JSON[found[0]], plain))
    if not isinstance(row, dict):
        pairs = [(pair["key"], pair["value"].strip().strip("'\"")) for pair in _PAIR.finditer(text)]
        # several rows in one line are none, rather than the last value of each
        row = dict(pairs) if len({key for key, _ in pairs}) == len(pairs) else {}
    return row or None


# ---- verl's console lines

_VERL = re.compile(r"(?:^|\s)step:\d+ - \S")


def verl_row(line: str) -> Row | None:
    """``step:3 - critic/score/mean:0.5 - actor/lr:1e-06``."""
    if "step:" not in line or not (start := _VERL.search(line)):
        return None
    pairs = (part.rpartition(":") for part in line[start.start() :].strip().split(" - "))
    return {key.strip(): value for key, _, value in pairs if key}


# ---- lines of keys and values

_MEASURED = "rew score acc loss len kl grad learning lr trunc entropy correct success pass@".split()
_KEY = r"(?<!\w)[A-Za-z][\w./@%()-]{0,80}(?: [A-Za-z][\w./@%()-]{0,80}){0,5}"
_LONGEST = 20_000  # characters of a line that is searched for keys and values
_ENTRY = re.compile(
    rf"(?P<key>{_KEY})(?:['\"]?\s*[:=]\s*['\"]?|\s+)[\[(]?(?P<value>{_NUMBER})"
    r"(?P<percent>%)?(?=$|[\s,;|/\]})'\"]|:(?!\d)|[a-zA-Z]{1,3}\b)"
)
_DIGITS = re.compile(r"\d+")
_AT = re.compile(r"(?i).*\b(?:at|after|in|of|for) (?=(?:global )?(?:step|iter\w*)$)")
_OF = re.compile(r"\((\d+)/\d+\)")
# A line, or what stands in front of a dictionary: the number of what follows.
_HEADING = re.compile(
    r"(?i)\b(?P<word>step|rollout|perf|iteration|iter|update)\s*[:=#]?\s*(?P<number>\d+)"
    r"(?:\s*/\s*\d+)?[\s:=\]|*#-]*$"
)
_HELD_OUT = re.compile(r"(?i)\b(?:eval\w*|valid\w*|val|test)\b")


def pairs_row(line: str) -> Row | None:
    """``Step 3/40 | Average reward: 0.5 | Learning Rate 1e-6``, ``[Step 3/40] reward=0.5``."""
    line = _TIME.sub("", line, count=1)
    found = list(_ENTRY.finditer(line))
    row = {
        _AT.sub("", entry["key"]): entry["value"].replace(",", "") + (entry["percent"] or "")
        for entry in found
    }
    kinds = {meaning(key).quantity for key in row}
    if not kinds - {"", STEP, CLOCK}:
        return None
    if STEP not in kinds and (counted := _OF.search(line)):
        row["step"] = counted[1]
    first = next(entry for entry in found if meaning(_AT.sub("", entry["key"])).quantity != STEP)
    if _HELD_OUT.search(line[: first.start()]):
        row = {key if meaning(key).quantity == STEP else f"eval {key}": v for key, v in row.items()}
    return row


# ---- tables

_RULE = re.compile(r"[\s|+:=\-─-╿]+")
_DELIMITERS = "\t,;|"
_STARTS = set("0123456789+-.nNiI")  # of what may be a number


@dataclass
class Table:
    """A table that has begun: its header, and what it means."""

    header: list[str]
    delimiter: str
    key: int | None = None
    value: int | None = None
    run: int | None = None
    runs: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    shared: list[int] = field(default_factory=list)

    @classmethod
    def begins(cls, before: str, line: str) -> Table | None:
        """Where two lines have as many cells, the first only names and the second numbers."""
        for delimiter in _DELIMITERS:
            if delimiter not in line or delimiter not in before:
                continue
            cells = split(line, delimiter)
            if not any(map(number_like, cells)):
                continue
            header = split(before, delimiter)
            named = sum(map(bool, header)) >= max(len(header) - 1, 1)
            if len(header) == len(cells) > 1 and named and not any(map(number_like, header)):
                return cls.named(header, delimiter)
        return None

    @classmethod
    def named(cls, header: list[str], delimiter: str) -> Table:
        table, names = cls(header, delimiter), [name.lower() for name in header]
        keys = [place for place, name in enumerate(names) if name in ("key", "metric", "tag")]
        if keys and "value" in names:
            table.key, table.value = keys[0], names.index("value")
            table.run = next((i for i, name in enumerate(names) if name in ("run_id", "run")), None)
        for place, name in enumerate(header):  # W&B exports columns "run - metric"
            run, dash, metric = name.rpartition(" - ")
            if dash and meaning(metric.removeprefix("train/")).quantity:
                table.runs.setdefault(run, []).append((place, metric))
            elif not dash:
                table.shared.append(place)
        return table

    def records(self, cells: list[str]) -> Iterator[Record]:
        """One row of the table; several where it holds several runs."""
        name = TABLE.name
        if self.key is not None and self.value is not None:
            skip = (self.key, self.value, self.run)
            row = {self.header[i]: cell for i, cell in enumerate(cells) if i not in skip and cell}
            row[cells[self.key]] = cells[self.value]
            yield Record(name, row, cells[self.run] if self.run is not None else "")
        elif self.runs:
            common = {self.header[place]: cells[place] for place in self.shared if cells[place]}
            for run, places in self.runs.items():
                row = {metric: cells[place] for place, metric in places if cells[place]}
                if row:
                    yield Record(name, common | row, run)
        else:
            pairs = zip(self.header, cells, strict=True)
            yield Record(name, {key: cell for key, cell in pairs if cell})


def split(line: str, delimiter: str) -> list[str]:
    """The cells of a line. One line at a time: an open quote must not swallow the file."""
    line = line.strip("\r\n ") if delimiter == "\t" else line.strip()
    if delimiter == ";":  # where cells are parted so, numbers may have decimal commas
        line = line.replace(",", ".")
    if delimiter == "|":
        line = line.removeprefix("|").removesuffix("|")
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except (csv.Error, StopIteration):
        return []


def number_like(cell: str) -> bool:
    if cell[:1] not in _STARTS:
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


# ---- all of them


@dataclass(frozen=True)
class LineFormat:
    """A form of lines: its name, who writes it, a line of it, and the row of a line."""

    name: str
    trainers: tuple[str, ...]
    example: str
    row: Callable[[str], Row | None] | None = None


DICTIONARIES = LineFormat(
    "dictionaries, JSON or Python",
    (
        "TRL",
        "ms-swift",
        "OpenRLHF",
        "slime",
        "miles",
        "SkyRL",
        "EasyR1",
        "tinker",
        "prime-rl",
        "W&B",
    ),
    "{'loss': 0.01, 'reward': 0.5, 'completions/mean_length': 311.0}",
    dictionary_row,
)
VERL = LineFormat(
    "verl's console", ("verl",), "step:3 - critic/score/mean:0.5 - actor/lr:1e-06", verl_row
)
TABLE = LineFormat(
    "table (CSV, tabs, semicolons, pipes)",
    ("Unsloth", "MLflow", "TensorBoard", "W&B", "tinker"),
    "step,reward,completions/mean_length",
)
PAIRS = LineFormat(
    "lines of keys and values",
    ("prime-rl", "NeMo-RL", "torchtune", "open-instruct", "mlx-lm-lora", "nanochat", "torchforge"),
    "Step 3/40 | Average reward: 0.5 | Average sequence length: 135.3",
    pairs_row,
)
LINES = (DICTIONARIES, VERL, TABLE, PAIRS)
_CUT = 4096  # characters of a line that W&B keeps in output.log
_CUT_NOTE = (
    f"rows that end after {_CUT} characters, where W&B's output.log cuts lines: what stood behind "
    "is lost"
)


def text_records(lines: Iterable[str], notes: Notes) -> Iterator[Record]:
    """The records of a text, whatever else stands in it."""
    reader = _Reader(notes)
    for line in lines:
        yield from reader.read(line)
    skipped = reader.skipped + len(reader.open_lines)
    notes.add(skipped, "lines skipped that are no row of a log")


@dataclass
class _Reader:
    """What the lines before say about a line: a table or a dictionary that has begun, the number
    that stands above, the names above an indented line.
    """

    notes: Notes
    skipped: int = 0
    before: str = ""  # the last line that was no row: perhaps a header
    table: Table | None = None
    open_lines: list[str] = field(default_factory=list)
    word: str = ""  # of the heading
    number: str = ""
    names: list[tuple[int, str]] = field(default_factory=list)
    cut: bool = False
    idle: set[str] = field(default_factory=set)  # lines, digits aside, that hold no measurement

    def read(self, line: str) -> Iterable[Record]:
        self.cut = _CUT <= len(line.rstrip("\r\n")) <= _CUT + 1
        line, stream = _without_prefix(line)
        text = line.strip()
        if not text:
            return ()
        if self.table is not None and self.table.delimiter in line:
            cells = split(line, self.table.delimiter)
            if len(cells) == len(self.table.header) and not _measured_dictionary(text):
                return self.cells(self.table, cells)
        if self.cut and "{" in text and not text.endswith("}"):
            text += "}"
        if self.open_lines and not (text := self.joined(text)):
            return ()
        if row := dictionary_row(text):
            return self.dictionary(row, text, stream)
        if row := verl_row(text):
            self.notes.add(int(self.cut), _CUT_NOTE)
            return (Record(VERL.name, row, "", stream),)
        if "{" in text and _OPENS.search(text) and len(text) < MAX_LINE // 16:
            self.open_lines = [text]
            return ()
        if table := Table.begins(self.before, line):
            self.table, self.skipped = table, self.skipped - 1  # the header was of use
            return self.cells(table, split(line, table.delimiter))
        if _RULE.fullmatch(text):
            return ()  # below a header
        self.head(line, text)
        if row := self.pairs(text):
            self.before = ""
            return (Record(PAIRS.name, row, "", stream),)
        self.skipped, self.before = self.skipped + 1, line
        return ()

    def cells(self, table: Table, cells: list[str]) -> Iterable[Record]:
        """A row of a table, or a header anew."""
        if any(map(number_like, cells)):
            for record in table.records(cells):
                if self.number and table.key is not None:
                    record.row.setdefault("step", self.number)
                yield record
        elif all(cells) and not all(map(_RULE.fullmatch, cells)):
            self.table = Table.named(cells, table.delimiter)

    def joined(self, text: str) -> str:
        """A dictionary over several lines as one, once it is whole; a line that does not go on with
        it as it is.
        """
        if text.startswith("{") and dictionary_row(text) is None:
            self.open_lines = [text]  # a row of an array: read from here
            return ""
        goes_on = len(text) < _LONGEST // 10 and _GOES_ON.search(text)
        if text.startswith("{") or not goes_on or len(self.open_lines) > _MOST_LINES:
            self.skipped, self.open_lines = self.skipped + len(self.open_lines), []
            return text
        self.open_lines.append(text)
        whole = " ".join(self.open_lines) if "}" in text else "{"
        if whole.count("{") > whole.count("}"):
            return ""
        self.open_lines = []
        return whole

    def dictionary(self, row: Row, text: str, stream: str) -> Iterable[Record]:
        """With the number that stands in front of it, or on the line above."""
        if heading := _HEADING.search(text[max(text.find("{") - 80, 0) : text.find("{")]):
            row.setdefault("step", heading["number"])
            stream = stream or heading["word"].lower()
        elif self.word.endswith(":"):
            row.setdefault("step", self.number)
        self.word = ""
        self.notes.add(int(self.cut), _CUT_NOTE)
        return (Record(DICTIONARIES.name, row, "", stream or _rank(row)),)

    def head(self, line: str, text: str) -> None:
        """Remembers a number or a name that stands above other lines."""
        end = text[-60:].rstrip("─━═=|╮╭ :#*-")
        if end[-1:].isdigit() and len(text) < 200 and (heading := _HEADING.search(end)):
            self.word, self.number = heading["word"] + ":" * text.endswith(":"), heading["number"]
            self.names = []
        indent = len(line) - len(line.lstrip()) if self.names else 0
        while self.names and self.names[-1][0] >= indent:
            self.names.pop()
        if text.endswith(":") and len(text) < 80 and len(self.names) < 8:
            self.names.append((len(line) - len(line.lstrip()), text.rstrip(": ")))

    def pairs(self, text: str) -> Row | None:
        """Keys and values, with the names and the number above them."""
        if len(text) > _LONGEST:
            return None
        low = text.lower()
        above = "/".join(name for _, name in self.names)
        if not any(word in low or word in above.lower() for word in _MEASURED):
            return None
        shape = _DIGITS.sub("0", low)
        if shape in self.idle and not above:
            return None
        row = pairs_row(f"{above}/{text.lstrip('•- *')}" if above else text)
        idle = row is None and not above and "pass@" not in low and len(shape) < 500
        if idle and len(self.idle) < 10_000:
            self.idle.add(shape)
        if row and self.number and not any(meaning(key).quantity == STEP for key in row):
            row["step"] = self.number
        return row


def _without_prefix(line: str) -> tuple[str, str]:
    """A line without escapes, boxes and the names of processes; and its rank, where it says it."""
    if "\x1b" in line:
        line = _ESCAPES.sub("", line)
    if not line.isascii():
        line = line.replace("│", "|").replace("┃", "|").replace("║", "|")
    if line.startswith("(") and (ray := _RAY.match(line)):
        line = line[ray.end() :]
    start = line[:12].lower()
    if ("rank" in start or "[default" in start) and (rank := _RANK.match(line)):
        return line[rank.end() :], f"rank {rank[1]}"
    return line, ""


def _measured_dictionary(text: str) -> bool:
    """Whether a line that has the cells of a table is a dictionary that holds a measurement."""
    row = dictionary_row(text) if "{" in text else None
    return row is not None and any(meaning(str(key)).quantity for key in row)


def _rank(row: Row) -> str:
    found = row.get("rank", row.get("local_rank", row.get("global_rank")))
    return "" if found is None else f"rank {found}"
