"""JMESPath within bounds: expressions that read, and templates that hold expressions between `${` and `}`.

Both come from a declaration alone, never from a message; what they are asked about comes from messages and vendors. So
an expression is checked when it is read (grammar, functions, their number of arguments), and bounded when it is used:
in steps, in the size and depth of what it makes.
"""

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from jmespath.exceptions import JMESPathError, ParseError
from jmespath.functions import Functions
from jmespath.parser import Parser
from jmespath.visitor import Options, TreeInterpreter

from relay.core.flow import DEEPEST, JsonValue

LONGEST = 1000
"""Characters of an expression."""
MOST_STEPS = 250_000
"""Looks at a value that all expressions of one request or answer may take together."""
LARGEST = 4 * 1024 * 1024
"""Characters that they may make together."""
NODE = 8
"""Characters that a value counts for besides those of its text."""

Path: TypeAlias = tuple[str, ...]
Node: TypeAlias = Mapping[str, Any]


class BadExpression(ValueError):
    """An expression or template can't be read."""


class NoValue(Exception):
    """An expression has no value here that can be used. The text quotes the expression, and never a value."""


# --- expressions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expression:
    """A JMESPath expression. `reads` are the places that it looks at, from the root, each with whether it is nothing
    without (true) or has something to fall back to; the empty path is the root as a whole."""

    text: str
    reads: Mapping[Path, bool] = field(repr=False, compare=False)
    _tree: Node = field(repr=False, compare=False)

    @classmethod
    def read(cls, text: str) -> "Expression":
        """The expression of the text. Raises BadExpression."""
        if len(text) > LONGEST:
            raise BadExpression(f"an expression has at most {LONGEST} characters, this one {len(text)}")
        tree = _parsed(text)
        _check_functions(tree)
        reads: dict[Path, bool] = {}
        for path, sure in _reads(tree, (), True)[0]:
            reads[path] = reads.get(path, False) or sure
        return cls(text, reads, tree)


def _parsed(text: str) -> Node:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of literals that are no JSON, which the library still takes
            # A parser of our own each time: the library's cache would be shared with nobody.
            return Parser().parse(text).parsed
    except ParseError as error:
        why = f"{text!r} is no JMESPath expression: it cannot be read {_place(text, error)}{_advice(text)}"
        raise BadExpression(why) from None
    except RecursionError:
        raise BadExpression(f"{text!r} is nested too deeply") from None
    except (ValueError, Warning):
        raise BadExpression(f"{text!r} is no JMESPath expression") from None


def _place(text: str, error: ParseError) -> str:
    position: int = error.lex_position
    return "at its end" if position >= len(text) else f"from {text[position : position + 20]!r} on"


def _advice(text: str) -> str:
    """What those mean who write so."""
    if text.startswith("${"):
        return "; an expression stands by itself, without ${ and }"
    if text.startswith("$"):
        return "; it begins at the answer, without $"
    if _ODD_NAME.search(text):
        return '; a name that is not of letters, digits and _ alone stands in double quotes, as in "job-id"'
    return ""


_ODD_NAME = re.compile(r"[\w\]][-/:@]\w|(?:^|\.)[0-9]")


def _children(node: Node) -> list[Node]:
    return [child for child in node["children"] if isinstance(child, Mapping)]


def _check_functions(tree: Node) -> None:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        waiting += _children(node)
        if node["type"] == "function_expression":
            _check_call(node["value"], len(node["children"]))


def _check_call(name: str, given: int) -> None:
    known = Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise BadExpression(f"there is no function {name}(); there are: {', '.join(sorted(Functions.FUNCTION_TABLE))}")
    signature = known["signature"]
    needed, variadic = len(signature), bool(signature and signature[-1].get("variadic"))
    if given < needed or (given > needed and not variadic):
        raise BadExpression(f"{name}() takes {'at least ' if variadic else ''}{needed} arguments, not {given}")


_CHAINS = frozenset({"subexpression", "index_expression", "pipe"})
_FORKS = frozenset({"or_expression", "and_expression", "not_expression", "comparator"})
_PROJECTIONS = frozenset({"projection", "value_projection", "filter_projection"})


def _reads(node: Node, here: Path | None, sure: bool) -> tuple[list[tuple[Path, bool]], Path | None]:
    """What the node reads when it is asked at `here` (None: of a value that was made), and where its own value is."""
    kind, children = node["type"], _children(node)
    if kind == "field":
        place = None if here is None else (*here, node["value"])
        return ([] if place is None else [(place, sure)]), place
    if kind in ("current", "identity", "index", "slice"):
        return ([] if here is None else [(here, sure)]), here
    if kind in _CHAINS:
        return _reads_chain(children, here, sure)
    if kind in _PROJECTIONS:
        found, place = _reads(children[0], here, sure)
        for child in children[1:]:
            found += _reads(child, place, False)[0]
        return found, None
    if kind == "expref":  # asked of a list's elements
        return _reads(children[0], None, False)
    certain = sure and kind not in _FORKS and not (kind == "function_expression" and node["value"] == "not_null")
    return [each for child in children for each in _reads(child, here, certain)[0]], None


def _reads_chain(children: list[Node], here: Path | None, sure: bool) -> tuple[list[tuple[Path, bool]], Path | None]:
    """What is only passed on the way is not read."""
    found: list[tuple[Path, bool]] = []
    place = here
    for number, child in enumerate(children):
        if number and place is not None:
            found = [each for each in found if each[0] != place]
        more, place = _reads(child, place, sure)
        found += more
    return found, place


# --- asking --------------------------------------------------------------------------------------------------------


class Scope:
    """What expressions are asked about, and what is left of their bounds."""

    def __init__(self, data: JsonValue) -> None:
        self._data = data
        self._interpreter = _Interpreter()
        self._room = LARGEST

    def value(self, expression: Expression) -> JsonValue:
        """What the expression finds: JSON, null where there is nothing. Raises NoValue."""
        try:
            value = self._interpreter.visit(expression._tree, self._data)
            if value is not self._data:
                self._room -= _size(value, self._room)
        except _TooMuch as error:
            raise NoValue(f"{expression.text!r} {error}") from None
        except (JMESPathError, ArithmeticError, TypeError, ValueError, RecursionError):
            raise NoValue(f"{expression.text!r} does not fit what it is asked about") from None
        return value

    def found(self, expression: Expression | None) -> JsonValue:
        """The same, but null where there is no value that can be used, or no expression."""
        try:
            return None if expression is None else self.value(expression)
        except NoValue:
            return None


class _TooMuch(Exception):
    """A bound was met."""


class _Interpreter(TreeInterpreter):
    """The library's interpreter, counting its steps; whatever takes long or grows is counted before it is done."""

    def __init__(self) -> None:
        super().__init__(Options(custom_functions=_Functions(self.spend)))
        self._left = MOST_STEPS
        self.COMPARATOR_FUNC = {name: self._counted(compare) for name, compare in self.COMPARATOR_FUNC.items()}  # type: ignore[misc]

    def spend(self, steps: int) -> None:
        """Take steps off what is left."""
        self._left -= steps
        if self._left < 0:
            raise _TooMuch(f"takes more than {MOST_STEPS} steps")

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self.spend(1)
        return super().visit(node, *args, **kwargs)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        self.spend(sum(len(each) if isinstance(each, list) else 1 for each in base))
        return [inner for each in base for inner in (each if isinstance(each, list) else [each])]

    def visit_slice(self, node: Any, value: Any) -> Any:
        found = super().visit_slice(node, value)
        self.spend(len(found or ()))
        return found

    def _counted(self, compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def counted(left: Any, right: Any) -> Any:
            self.spend(_steps(left) + _steps(right))
            return compare(left, right)

        return counted


class _Functions(Functions):
    """The library's functions, counted."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend

    def call_function(self, function_name: str, resolved_args: Any) -> Any:
        deep = function_name in ("contains", "to_string")
        self._spend(sum(_steps(each) if deep else _width(each) for each in resolved_args))
        if function_name == "join" and len(resolved_args) == 2:
            separator, words = resolved_args
            if len(words) * len(separator or "") > LARGEST or sum(map(_width_of_text, words)) > LARGEST:
                raise _TooMuch(f"makes more than {LARGEST} characters")
        return super().call_function(function_name, resolved_args)


def _width(value: Any) -> int:
    """The steps that it takes to go through a value once, without what is in it."""
    return len(value) if isinstance(value, list | dict) else 1 + _width_of_text(value) // 64


def _width_of_text(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0


def _steps(value: Any) -> int:
    """The steps that it takes to go through all of a value."""
    steps = 0
    for each, _ in _walk(value):
        steps += 1 + _width_of_text(each) // 64
        if steps > MOST_STEPS:
            break
    return steps


def _walk(value: Any) -> Iterator[tuple[Any, int]]:
    """Every value in a value with its level; what is in it twice comes twice."""
    waiting = [(value, 0)]
    while waiting:
        each, level = waiting.pop()
        yield each, level
        if isinstance(each, list):
            waiting += [(inner, level + 1) for inner in each]
        elif isinstance(each, dict):
            waiting += [(inner, level + 1) for inner in each.values()]
            yield from ((name, level) for name in each)


def _size(value: Any, most: int) -> int:
    """Characters that the value counts for. Raises _TooMuch for what is too large or deep, or cannot be sent."""
    size = 0
    for each, level in _walk(value):
        size += NODE + _width_of_text(each)
        if size > most:
            raise _TooMuch(f"makes more than {LARGEST} characters")
        if level > DEEPEST:
            raise _TooMuch(f"makes more than {DEEPEST} levels")
        if not _plain(each):
            raise _TooMuch("makes something that is not JSON")
    return size


def _plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return value is None or isinstance(value, str | list | dict)


# --- templates -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Template:
    """A text with expressions between `${` and `}`; `$${` is the text `${`."""

    text: str
    parts: tuple[str | Expression, ...] = field(repr=False, compare=False)

    @classmethod
    def read(cls, text: str) -> "Template":
        """The template of the text. Raises BadExpression."""
        return cls(text, tuple(_parts(text)))

    @property
    def expressions(self) -> Iterator[Expression]:
        """Those in it."""
        return (part for part in self.parts if isinstance(part, Expression))

    @property
    def whole(self) -> Expression | None:
        """The expression that the template is, if it is just one."""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], Expression) else None

    def filled(self, scope: Scope) -> JsonValue:
        """The value of a template that is one expression, with its type; else a text. Raises NoValue."""
        whole = self.whole
        return self.line(scope) if whole is None else scope.value(whole)

    def line(self, scope: Scope, encode: Callable[[str], str] = str) -> str:
        """The text, a null as an empty one, each value passed through `encode`. Raises NoValue."""
        return "".join(
            part if isinstance(part, str) else encode(text_of(scope.value(part)) or "") for part in self.parts
        )


def text_of(value: JsonValue) -> str | None:
    """A value as text: a text as it is, anything else as JSON; None for null."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _parts(text: str) -> Iterator[str | Expression]:
    plain, at = "", 0
    while (start := text.find("${", at)) >= 0:
        if text[:start].endswith("$"):
            plain += text[at : start - 1] + "${"
            at = start + 2
            continue
        plain += text[at:start]
        if plain:
            yield plain
        plain, end = "", _end(text, start + 2)
        yield Expression.read(text[start + 2 : end].strip())
        at = end + 1
    plain += text[at:]
    if plain or not text:
        yield plain


_QUOTES = "'\"`"


def _end(text: str, at: int) -> int:
    """Where the `}` stands that ends an expression: not one within quotes, nor that of an object in it."""
    level, quote = 0, ""
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in _QUOTES:
            quote = char
        elif char == "}" and level == 0:
            return at
        else:
            level += (char == "{") - (char == "}")
        at += 1
    raise BadExpression(f"{text[:100]!r} has a ${{ without its }}; write $${{ for the text ${{")
