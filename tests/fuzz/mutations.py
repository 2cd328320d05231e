"""Changing files where their readers look: numbers and names in JSON, headers, archives, HDF5.

A byte that is changed at random mostly breaks a checksum, a quotation mark or an archive, and what
lies behind them is never reached. `mutated` takes a file apart, changes one thing, and puts it
together again, lengths and checksums included.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import xxhash

from features.sealed import KEY, checksum, sealed
from tests.fuzz.hdf5_files import change_something, edited, summed, with_table

Mutation = Callable[[bytes, Random], bytes]

# What programs get wrong: borders of types, text for numbers, numbers that are none, depth.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 256, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1,
    2**63, 2**64, 10**30, -(2**63), 10**400, 0.0, -0.0, 1.5, 1e308, 1e-320, float("nan"),
    float("inf"), -float("inf"), "", " ", "a", "\0", "\n", "é", "\ud800", "a" * 300, "../x",
    "/etc/passwd", "text", "image", "F32", "9" * 50, [], {}, [[]], [0], [None], ["a"], {"a": 1},
    {"": None}, [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4],
)  # fmt: skip
_INTERESTING = (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\n", b",", b'"', b"[", b"]",
                b"{", b"}", b"nan", b"inf", b"-1", b"1e999", b"0", b"4294967295",
                b"9223372036854775807", b"18446744073709551616", b"#", b"\xef\xbb\xbf", b"\x80",
                b"\xed\xa0\x80", b"PK\x03\x04", b"\x80\x04\x95")  # fmt: skip
_DEEP = 2000
_TYPES = ("<f4", "<f2", ">f8", "|u1", "<i8", "|O", "|S0", "<U500000000", "|V0", "<c16", "<M8[s]",
          "<f16", "|b1", "(3,)<f4", "[('a', '<f4')]")  # fmt: skip
_SHAPES = ("()", "(0,)", "(1,)", "(0, 4)", "(4, 0)", "(3000000000, 4)", "(-1, 4)", "(4294967296,"
           " 4294967296)", "(2, 2)", "(1, 1, 1)", "(True, 3)", "(2.0, 3)", "[2, 3]", "None",
           "(" * 200, "(18446744073709551616, 1)")  # fmt: skip


def mutated(content: bytes, form: str, random: Random) -> bytes:
    """A file of this form with something changed; what cannot be taken apart changes as bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        try:
            content = FORMS[form](content, random)
        except Exception:  # an earlier change made it unreadable
            content = _bytes(content, random)
    return content


def _bytes(content: bytes, random: Random) -> bytes:
    out = bytearray(content)
    place = random.randrange(len(out) + 1)
    way = random.randrange(7)
    if way == 0 and out:
        out[place - 1] ^= 1 << random.randrange(8)
    elif way == 1:
        del out[place:]
    elif way == 2:
        out[place : place + random.choice((0, 1, 2, 4, 8))] = random.choice(_INTERESTING)
    elif way == 3:
        del out[place : place + random.choice((1, 2, 4, 8, 64))]
    elif way == 4:
        start = random.randrange(len(out) + 1)
        out[place:place] = out[start : start + random.choice((1, 4, 16, 256))]
    elif way == 5:
        number = random.choice((0, 1, 127, 128, 255, 2**15, 2**16, 2**31, 2**32 - 1, 2**63))
        size = random.choice((1, 2, 4, 8))
        order = random.choice(("little", "big"))
        out[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    else:
        out += bytes(random.choice((1, 8, 1024)))
    return bytes(out)


def _tree(tree: Any, random: Random) -> Any:
    """JSON with one node replaced, removed, doubled or wrapped."""
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list):
            keys = list(node) if isinstance(node, dict) else range(len(node))
            places += [(node, key) for key in keys]
            waiting += [node[key] for key in keys]
    if not places or random.random() < 0.02:
        return random.choice(VALUES)
    parent, key = random.choice(places)
    way = random.randrange(8)
    if way < 4:
        parent[key] = random.choice(VALUES)
    elif way == 4:
        del parent[key]
    elif way == 5:
        other, at = random.choice(places)
        parent[key] = json.loads(json.dumps(other[at])) if at in _keys(other) else None
    elif way == 6:
        parent[key] = [parent[key]]
    elif isinstance(parent, dict):
        parent[random.choice(("a", "format", "../x", "", "path"))] = parent.pop(key)
    else:
        parent.append(parent[key])
    return tree


def _keys(node: Any) -> Any:
    return node if isinstance(node, dict) else range(len(node))


def _dumped(tree: Any, random: Random) -> bytes:
    text = json.dumps(tree)
    if random.random() < 0.01:
        text = "[" * _DEEP * 50 + text
    return text.encode(errors="surrogatepass")


def _json(content: bytes, random: Random) -> bytes:
    if random.random() < 0.1:
        return _bytes(content, random)
    tree = json.loads(content)
    is_sealed = isinstance(tree, dict) and tree.get(KEY) == checksum(tree)
    tree = _tree(tree, random)
    if is_sealed and isinstance(tree, dict) and random.random() < 0.9:
        tree = sealed(tree)  # as by who can change the one and the other
    return _dumped(tree, random)


def _lines(content: bytes, random: Random) -> bytes:
    lines = content.splitlines()
    place = random.randrange(len(lines))
    lines[place] = _json(lines[place], random)
    if random.random() < 0.2:
        lines.insert(place, random.choice(lines))
    return b"\n".join(lines) + b"\n" * random.randrange(2)


def _journal(content: bytes, random: Random) -> bytes:
    """Lines of JSON after their own checksum."""
    lines = [line.partition(b" ")[2] for line in content.splitlines()]
    place = random.randrange(len(lines))
    lines[place] = _json(lines[place], random)
    told = [xxhash.xxh3_64_hexdigest(line).encode() + b" " + line for line in lines]
    return b"\n".join(told) + b"\n"


def _safetensors(content: bytes, random: Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if random.random() < 0.2:
        return content[: 8 + length] + _bytes(data, random)
    tree = json.loads(header)
    inner = tree.get("__metadata__")
    if inner and random.random() < 0.5:
        key = random.choice(list(inner))
        inner[key] = _json(inner[key].encode(), random).decode(errors="replace")
        changed = json.dumps(tree).encode()
    else:
        changed = _json(header, random)
    claimed = len(changed) if random.random() < 0.95 else random.choice((0, 1, 2**32, 2**63))
    return claimed.to_bytes(8, "little") + changed + data


def _npy(content: bytes, random: Random) -> bytes:
    length = int.from_bytes(content[8:10], "little")
    header, data = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    way = random.randrange(5)
    if way == 0:
        header = re.sub(r"'descr': [^,]*", f"'descr': '{random.choice(_TYPES)}'", header)
    elif way == 1:
        header = re.sub(r"'shape': \(.*?\)", f"'shape': {random.choice(_SHAPES)}", header)
    elif way == 2:
        header = header.replace("False", random.choice(("True", "None", "1", "'a'")))
    elif way == 3:
        header = _bytes(header.encode("latin-1"), random).decode("latin-1")
    else:
        return content[: 10 + length] + _bytes(data, random)
    size = (len(header) % 65536).to_bytes(2, "little")
    return content[:8] + size + header.encode("latin-1") + data


def _archive(content: bytes, random: Random) -> bytes:
    """An .npz file with one array changed, or left out, or under another name."""
    if random.random() < 0.2:
        return _bytes(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    way = random.randrange(6)
    if way < 3:
        members[name] = _npy(members[name], random)
    elif way == 3:
        del members[name]
    elif way == 4:
        members[random.choice(("xyz.npy", "a", "../a.npy", "", "ids.npy"))] = members.pop(name)
    else:
        members["more.npy"] = members[name]
    out = io.BytesIO()
    kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return out.getvalue()


_TOML = ("true", "-1", "0", "1.5", "nan", "inf", "1e400", '""', '"a"', '"../x"', "[]", "[[]]",
         "[1, 'a']", "{}", "{a = 1}", "1979-05-27", "07:32:00", "9" * 30, "'''\n'''", '"\\uD800"',
         "9" * 5000, "[" * 3000 + "]" * 3000, '"' + "a" * 300 + '"', "0x10", "1_0")  # fmt: skip


def _toml(content: bytes, random: Random) -> bytes:
    lines = content.splitlines()
    place = random.randrange(len(lines))
    key, equals, _ = lines[place].partition(b"=")
    way = random.randrange(5)
    if equals and way < 3:
        lines[place] = key + b"= " + random.choice(_TOML).encode()
    elif way == 3:
        lines.insert(random.randrange(len(lines)), lines.pop(place))
    else:
        lines[place] = _bytes(lines[place], random)
    return b"\n".join(lines)


def _text(content: bytes, random: Random) -> bytes:
    """A table or list of lines: one field, or one line, is another."""
    if random.random() < 0.4:
        return _bytes(content, random)
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    words = re.split(rb"([\s,;&\t]+)", lines[place])
    value = random.choice(VALUES)
    told = value if isinstance(value, str) else json.dumps(value)
    words[random.randrange(len(words))] = told.encode(errors="surrogatepass")
    lines[place] = b"".join(words)
    if random.random() < 0.2:
        lines.insert(place, random.choice(lines))
    return b"\n".join(lines)


def _hdf5(content: bytes, random: Random) -> bytes:
    """One dataset or attribute is another, without checksums or with right ones; or bytes are."""
    way = random.random()
    if way < 0.1:
        return _bytes(content, random)
    if way < 0.2:
        return with_table(content, lambda table: _json(table, random))
    if way < 0.5:
        return _bytes(edited(content, lambda _: None), random)
    changed = edited(content, lambda file: change_something(file, random))
    return summed(changed) if way < 0.75 else changed


FORMS: dict[str, Mutation] = {
    "bytes": _bytes, "json": _json, "lines": _lines, "journal": _journal, "npy": _npy,
    "safetensors": _safetensors, "archive": _archive, "toml": _toml, "text": _text, "hdf5": _hdf5,
}  # fmt: skip
