"""Sections of settings: frozen dataclasses that pydantic checks strictly, and errors that name the flag.

Flags, YAML files, search spaces and Python go through the same check: `with_overrides` applies all changes, then each section
that changed is checked as a whole. A section does not know its place in the tree, so its errors name the field, and every
level above puts its own name in front (`BadValue.within`).
"""

import dataclasses
import difflib
import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from mm_ray.errors import BadValue, bad_value

if TYPE_CHECKING:
    from dataclasses import dataclass as section
else:
    from pydantic.dataclasses import dataclass as _checked

    STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def section(**options: bool) -> Callable[[type], type]:
        """`dataclasses.dataclass` whose fields are checked when it is made: `UserError` names the field and the remedy."""

        def make(cls: type) -> type:
            cls = _checked(config=STRICT, **options)(cls)
            check = cls.__init__

            @functools.wraps(check)
            def init(self: Any, **fields: Any) -> None:
                try:
                    check(self, **fields)
                except ValidationError as error:
                    raise _bad_field(cls, fields, error) from None

            cls.__init__ = init
            return cls

        return make


Section = TypeVar("Section")
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def fields_of(section: Any, prefix: str = "") -> dict[str, FieldInfo]:
    """The fields of a section and of the sections in it, by dotted name."""
    found: dict[str, FieldInfo] = {}
    for name, info in section.__pydantic_fields__.items():
        inner = dataclasses.is_dataclass(info.annotation)
        found |= fields_of(info.annotation, f"{prefix}{name}.") if inner else {f"{prefix}{name}": info}
    return found


def with_overrides(config: Section, overrides: Mapping[str, Any]) -> Section:
    """A copy of a tree of sections with dotted fields replaced; all changes are applied, then checked once.

    Args:
        config: Any section.
        overrides: `{"phase2.rounds": 24}`.

    Raises:
        UserError: A name that is no field (the error lists the fields), a value of another type or out of range.

    """
    own = {name: value for name, value in overrides.items() if "." not in name}
    inner: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in overrides.items():
        if "." in name:
            inner[name.partition(".")[0]][name.partition(".")[2]] = value
    for name, changes in inner.items():
        child = own.get(name, getattr(config, name, None))
        if not dataclasses.is_dataclass(child):
            field, value = next(iter(changes.items()))
            raise bad_value(f"{name}.{field}", value, _no_field(type(config), name))
        try:
            own[name] = with_overrides(child, changes)
        except BadValue as error:
            raise error.within(name) from None
    return dataclasses.replace(config, **own)  # type: ignore[type-var]


def read_text(info: FieldInfo, text: str) -> Any:
    """The value of a flag's text; the text itself if it is not valid, which the check then refuses."""
    kind = info.annotation
    try:
        if words_of(info):
            return text if text in words_of(info) else float(text)
        if kind in (int, float):
            return kind(text)
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if get_origin(kind) is tuple:
            return tuple(int(piece) for piece in text.strip("[]()").split(","))
    except (ValueError, KeyError):
        pass
    return text


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """The values that a field accepts, if there is a fixed choice."""
    return get_args(info.annotation) if get_origin(info.annotation) is Literal else ()


def words_of(info: FieldInfo) -> tuple[str, ...]:
    """The words that a field accepts besides numbers (`float | Literal["auto"]`)."""
    return tuple(word for kind in get_args(info.annotation) if get_origin(kind) is Literal for word in get_args(kind))


def kind_of(info: FieldInfo) -> str:
    """What a field accepts, in words."""
    if words := words_of(info):
        return f"a number of at least 0, or {' or '.join(words)}"
    if choices := choices_of(info):
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    if get_origin(info.annotation) is tuple:
        each = get_args(info.annotation)
        return f"{len(each)} whole numbers, each {_range(_bounds(get_args(each[0])[1]))}"
    return KINDS.get(info.annotation, "a section")  # type: ignore[arg-type]


def _bad_field(cls: Any, given: Mapping[str, Any], error: ValidationError) -> BadValue:
    """The first fault of a section, as `--field value: remedy`."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadValue):  # of a section's own `__post_init__`
        return cause
    name = str(first["loc"][0])
    if first["type"] == "unexpected_keyword_argument":
        return bad_value(name, given[name], _no_field(cls, name))
    info = cls.__pydantic_fields__[name]
    if dataclasses.is_dataclass(info.annotation):
        some = next(iter(fields_of(info.annotation)))
        return bad_value(name, given[name], f"is a group of fields; set them one by one, such as --{name}.{some}")
    return bad_value(name, given[name], _remedy(info, given[name], first["type"]))


def _no_field(cls: Any, name: str) -> str:
    names = list(cls.__pydantic_fields__)
    nearest = difflib.get_close_matches(name, names, n=1)
    return "no such field; " + (f"did you mean {nearest[0]}? " if nearest else "") + f"here are: {', '.join(names)}"


def _remedy(info: FieldInfo, value: Any, fault: str) -> str:
    bounds = _bounds(info)
    default = f" (default: {_plain(info.default)})" if info.default != "" else ""
    if fault == "multiple_of":
        return f"must be a multiple of {next(rule.multiple_of for rule in info.metadata if hasattr(rule, 'multiple_of'))}"
    if fault == "finite_number":
        return f"must be finite{default}"
    if bounds and fault in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return f"must be {_range(bounds)}{default}"
    nearest = difflib.get_close_matches(str(value).lower(), choices_of(info), n=1)
    return f"must be {kind_of(info)}" + (
        f"; did you mean {nearest[0]}?" if nearest else default if not choices_of(info) else ""
    )


def _bounds(info: FieldInfo) -> dict[str, float]:
    return {key: getattr(rule, key) for rule in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(rule, key)}


def _range(bounds: Mapping[str, float]) -> str:
    if {"ge", "le"} <= bounds.keys():
        return f"between {bounds['ge']:,} and {bounds['le']:,}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[key]} {bound:,}" for key, bound in bounds.items())


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
