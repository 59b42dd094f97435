"""Write `docs/reference/` from the code: what the code says of itself, and nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import dalston_engine
import msgspec
import typer.main
from dalston_engine import keys
from dalston_engine.errors import DalstonError
from msgspec import Struct

import dalston
from dalston.cli.app import app
from dalston.dialects.elevenlabs import ELEVENLABS
from dalston.dialects.elevenlabs import live_form as elevenlabs_live
from dalston.dialects.openai import OPENAI, TRANSLATIONS
from dalston.dialects.openai import live_form as openai_live
from dalston.docstrings import of_constants, of_fields
from dalston.gateway.app import create_app
from dalston.gateway.asyncapi import document
from dalston.gateway.metrics import families
from dalston.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
NOTE = "<!-- Written from the code: change that, then run `.venv/bin/python -m scripts.reference`. -->"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    made = {"cli": cli(), "settings": settings(), "rest": rest(), "redis-keys": redis_keys(),
            "errors": errors(), "metrics": metrics(), "sdk": sdk(),
            "compatibility": compatibility()}  # fmt: skip
    texts = {f"{name}.md": f"{NOTE}\n\n" + "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}
    return texts | {
        "live.asyncapi.json": msgspec.json.format(msgspec.json.encode(document())).decode() + "\n"
    }


def table(columns: str, rows: Iterator[list[str]] | list[list[str]]) -> Iterator[str]:
    """A table in Markdown."""
    names = columns.split(",")
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def cli() -> Iterator[str]:
    """Every command."""
    yield "# Commands\n"
    yield from _command(typer.main.get_command(app), "dalston")


def _command(command: Any, name: str) -> Iterator[str]:
    """A command, or a group's; typer brings a click of its own, so they are told apart by what they have."""
    if hasattr(command, "commands"):
        if " " in name:
            yield f"## `{name}`\n\n{command.help}\n"
        for one, found in sorted(command.commands.items()):
            if not found.hidden:
                yield from _command(found, f"{name} {one}")
        return
    given = [one for one in command.params if one.param_type_name == "argument"]
    words = [f"{one.name.upper()}{'…' if one.nargs == -1 else ''}" for one in given]
    yield f"{'###' if ' ' in name.removeprefix('dalston ') else '##'} `{' '.join([name, *words])}`\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    options = [one for one in command.params if one.param_type_name == "option"]
    rows = [[", ".join(f"`{one}`" for one in option.opts), _default(option.default), option.help or ""]
            for option in options]  # fmt: skip
    if rows:
        yield from table("option,default,what", rows)


def _default(value: Any) -> str:
    if callable(value) or value in (None, "", False) or type(value).__name__ == "Sentinel":
        return ""
    return f"`{getattr(value, 'value', value)}`"


def settings() -> Iterator[str]:
    """Every setting."""
    yield "# Settings\n"
    yield "From `dalston.toml` or the environment; see `dalston config` for those in force.\n"
    told = of_fields(Settings)
    defaults = Settings()
    rows = [[f"`{name}`", f"`{PREFIX}{name.upper()}`", _default(getattr(defaults, name)), told[name]]
            for name in Settings.__struct_fields__]  # fmt: skip
    yield from table("setting,variable,default,what", rows)


def rest() -> Iterator[str]:
    """Every route of the API."""
    document = create_app(Settings()).openapi()
    yield "# REST\n"
    yield "The server tells the same at `/openapi.json`, with schemas and examples.\n"
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            yield f"## {method.upper()} `{path}`\n\n{route['description']}\n"
            fields = (
                route.get("requestBody", {})
                .get("content", {})
                .get("multipart/form-data", {})
                .get("schema", {})
            )
            rows = [[f"`{one['name']}`", one["in"], one["schema"], one.get("description", "")]
                    for one in route.get("parameters", [])]  # fmt: skip
            rows += [[f"`{name}`", "form", rule, rule.get("description", "")]
                     for name, rule in fields.get("properties", {}).items()]  # fmt: skip
            if rows:
                yield from table("name,in,type,what", [[a, b, _kind(rule), d] for a, b, rule, d in rows])
            answers = [[status, ", ".join(_content(one)), one["description"]]
                       for status, one in route["responses"].items()]  # fmt: skip
            yield from table("answer,content,what", answers)
    yield "# Schemas\n"
    for name, schema in document["components"]["schemas"].items():
        yield f"## {name}\n\n{schema.get('description', '')}\n"
        rows = [[f"`{field}`", _kind(rule), rule.get("description", "")]
                for field, rule in schema["properties"].items()]  # fmt: skip
        yield from table("field,type,what", rows)


def _content(answer: Any) -> Iterator[str]:
    for kind, content in answer.get("content", {}).items():
        yield _kind(content["schema"]) if kind == "application/json" else f"`{kind}`"


def _kind(rule: dict[str, Any]) -> str:
    if "$ref" in rule:
        name = rule["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in rule:
        return " or ".join(_kind(one) for one in rule["anyOf"] if one != {"type": "null"})
    if "enum" in rule:
        return ", ".join(f"`{one}`" for one in rule["enum"])
    if rule.get("type") == "array":
        return f"list of {_kind(rule['items'])}"
    kind = rule.get("type", "")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    return " ".join(filter(None, (kind, rule.get("format", ""))))


def compatibility() -> Iterator[str]:
    """What of the vendors' requests is taken, refused, or works a little otherwise."""
    yield "# Compatibility\n"
    yield "Fields of the vendors' requests. A field that is refused is refused when it asks for something; "
    yield "its default, sent or not, is taken. A field that is not here is refused; in the query of "
    yield "ElevenLabs' live sessions it is ignored.\n"
    for title, dialect in (
        ("ElevenLabs: `POST /v1/speech-to-text`", ELEVENLABS),
        ("OpenAI: `POST /v1/audio/transcriptions`", OPENAI),
        ("OpenAI: `POST /v1/audio/translations`", TRANSLATIONS),
    ):
        file = ["`file`", "supported", "The recording, audio or video.", ""]
        yield from _compared(title, [file, *_support(dialect.form)], dialect.names)
    yield from _compared(
        "ElevenLabs: `WS /v1/speech-to-text/realtime`", _support(elevenlabs_live.Live), elevenlabs_live.MODELS
    )
    live: list[list[str]] = []
    for prefix, part in openai_live.PARTS:
        live += (row for row in _support(part, openai_live.Input, prefix) if row not in live)
    yield from _compared("OpenAI: `WS /v1/realtime`, `audio.input` of a session", live, openai_live.MODELS)


def _compared(title: str, rows: Iterable[list[str]], names: Sequence[str]) -> Iterator[str]:
    yield f"## {title}\n"
    yield from table("field,support,what,how it differs", list(rows))
    yield f"Models: {', '.join(f'`{name}`' for name in names)}.\n"


def _support(form: Any, told_by: Any = None, prefix: str = "") -> Iterator[list[str]]:
    """A form's fields; `told_by` is the form that says which of them are refused or differ, by `prefix`."""
    told, form_by = of_fields(form), told_by or form
    for field in form.__struct_fields__:
        name = f"{prefix}{field}"
        refused, differs = form_by.REFUSED.get(name), form_by.DIFFERS.get(name)
        support = "refused" if refused else "differs" if differs else "supported"
        yield [f"`{name}`", support, told[field], refused or differs or ""]


def redis_keys() -> Iterator[str]:
    """Every Redis key."""
    told = of_constants(keys)
    yield "# Redis keys\n"
    yield "For observers: only Dalston's scripts may write them.\n"
    rows = [[f"`{key.pattern}`", key.type, key.lifetime, key.writers, told[name]]
            for name, key in keys.ALL.items()]  # fmt: skip
    yield from table("key,type,lifetime,writers,what", rows)


def errors() -> Iterator[str]:
    """Every error code: those of the classes, and those given where an error is raised."""
    yield "# Error codes\n"
    yield "As `error.code` in answers and in failed jobs; `error.message` says what, which, and what to do.\n"
    for package in (dalston_engine, dalston):
        for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not one.name.endswith("__main__"):
                importlib.import_module(one.name)
    known: dict[str, list[str]] = {}
    for kind in _below(DalstonError):
        known.setdefault(kind.code, [str(kind.status), inspect.getdoc(kind) or ""])
    for code, status, where in _raised({kind.__name__: kind for kind in _below(DalstonError)}):
        known.setdefault(code, [status, f"Raised in `{where}`."])
    yield from table("code,status,what", [[f"`{code}`", *rest] for code, rest in sorted(known.items())])


def _below(kind: type[DalstonError]) -> Iterator[type[DalstonError]]:
    """A class and those derived from it; tests have some of their own."""
    if kind.__module__.startswith("dalston"):
        yield kind
    for one in sorted(kind.__subclasses__(), key=lambda one: (one.__module__, one.__qualname__)):
        yield from _below(one)


def _raised(kinds: dict[str, type[DalstonError]]) -> Iterator[tuple[str, str, str]]:
    """Codes that are given where an error is raised, with their status and place."""
    folders = (ROOT / "src", ROOT / "sdk" / "src", ROOT / "engines")
    sources = [path for folder in folders for path in folder.rglob("*.py") if ".venv" not in path.parts]
    for path in sorted(sources):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                given = {
                    one.arg: one.value.value for one in node.keywords if isinstance(one.value, ast.Constant)
                }
                if "code" in given:
                    status = given.get("status", kinds[node.func.id].status)
                    yield str(given["code"]), str(status), str(path.relative_to(ROOT))


def metrics() -> Iterator[str]:
    """Every metric."""
    yield "# Metrics\n"
    yield "At `/metrics`, beside those of the gateway's own process (`process_…`).\n"
    rows = [[f"`{name}{'_total' if kind == 'counter' else ''}`", kind, ", ".join(labels), what]
            for name, kind, what, labels in families()]  # fmt: skip
    yield from table("metric,type,labels,what", rows)


def sdk() -> Iterator[str]:
    """What an engine imports."""
    yield "# SDK\n"
    yield f"{inspect.getdoc(dalston_engine)}\n"
    for name in dalston_engine.__all__:
        one = getattr(dalston_engine, name)
        signature = "" if isinstance(one, type) and issubclass(one, Exception) else _signature(one)
        yield f"## `{name}{signature}`\n\n{inspect.getdoc(one)}\n"
        if isinstance(one, type) and issubclass(one, Struct):
            told = of_fields(one)
            rows = [[f"`{field}`", _annotation(kind), told.get(field, "")] for field, kind in _hints(one)]
            yield from table("field,type,what", rows)
        elif isinstance(one, type) and not issubclass(one, Exception):
            for method, what in vars(one).items():
                if (
                    not method.startswith("_")
                    and inspect.getdoc(what)
                    and (callable(what) or isinstance(what, property))
                ):
                    given = "" if isinstance(what, property) else _signature(what)
                    yield f"- `{method}{given}`: {inspect.getdoc(what)}"
            yield ""


def _signature(one: Any) -> str:
    return (
        re.sub(r"<[^>]*>", "…", str(inspect.signature(one)))
        .replace("dalston_engine.types.", "")
        .replace("'", "")
    )


def _hints(kind: type) -> list[tuple[str, Any]]:
    return [(field, kind.__annotations__.get(field)) for field in kind.__struct_fields__]  # type: ignore[attr-defined]


def _annotation(kind: Any) -> str:
    if get_args(kind):
        return re.sub(r"\w+\.", "", str(kind))
    return getattr(kind, "__name__", str(kind))


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
