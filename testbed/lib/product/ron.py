"""Writes RON, the notation of the configuration files. A dict is a struct `(key: value)`, a list a list, a string a
string. `word`, `tagged` and `Map` are for what Python has no literal for."""

import json


class word(str):
    """A bare word, such as an enum variant without fields: `copy`."""


class Map(dict):
    """A RON map `{key: value}` rather than a struct."""


class tagged:
    """An enum variant with named fields: `underlay(addresses: [...])`."""

    def __init__(self, name, **fields):
        self.name, self.fields = name, fields


def dumps(value, depth=0):
    """The RON text of a value."""
    pad, end = "    " * (depth + 1), "    " * depth
    if isinstance(value, word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, tagged):
        return value.name + dumps(value.fields, depth)
    if isinstance(value, Map):
        return "{" + ", ".join(f"{dumps(k)}: {dumps(v, depth + 1)}" for k, v in value.items()) + "}"
    if isinstance(value, dict):
        if not value:
            return "()"
        return "(\n" + "".join(f"{pad}{k}: {dumps(v, depth + 1)},\n" for k, v in value.items()) + end + ")"
    if isinstance(value, (list, tuple)):
        if all(isinstance(v, (str, int)) for v in value):
            return "[" + ", ".join(dumps(v) for v in value) + "]"
        return "[\n" + "".join(f"{pad}{dumps(v, depth + 1)},\n" for v in value) + end + "]"
    return json.dumps(str(value), ensure_ascii=False)
