"""A signature is the only declaration of an engine's options; a schema carries it to the gateway."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from dalston_engine import BadInput
from dalston_engine.parameters import options_of, schema_of, validated
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from dalston.orchestrator.options import type_of
from tests.unit.values import values

Vocabulary = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=9)]], Meta(min_length=1, max_length=3)
]


class Example:
    """A method with an option of every kind that engines may declare."""

    def transcribe(
        self,
        audio: bytes,
        flag: bool = True,
        count: int = 5,
        ratio: float = 0.5,
        text: str = "some",
        choice: Literal["a", "b"] = "a",
        level: Literal[1, 2, 3] = 1,
        names: list[str] | None = None,
        language: str | None = None,
        maybe: int | None = None,
        switch: bool | None = None,
        fail: Literal["x", "y"] | None = None,
        beam: Annotated[int, Meta(ge=1, le=20)] = 5,
        open_: Annotated[int, Meta(gt=0, lt=9)] = 5,
        share: Annotated[float, Meta(gt=0, lt=1)] = 0.5,
        temperature: Annotated[float, Meta(ge=0, le=2)] | None = None,
        prompt: Annotated[str, Meta(min_length=2, max_length=8)] = "some",
        vocabulary: Vocabulary | None = None,
    ) -> None: ...


OPTIONS = options_of(Example.transcribe, 1)
REBUILT = type_of(schema_of(OPTIONS))
FIELDS = {field.name: field.type for field in msgspec.structs.fields(OPTIONS)}
GIVEN = st.fixed_dictionaries({}, optional={name: values(kind) for name, kind in FIELDS.items()})


def set_of(options: msgspec.Struct) -> dict[str, Any]:
    """The options that differ from None."""
    return {name: value for name, value in msgspec.to_builtins(options).items() if value is not None}


def test_the_schema_has_every_option_with_its_default() -> None:
    properties = schema_of(OPTIONS)["properties"]
    assert list(properties) == list(FIELDS)
    assert {name: rule["default"] for name, rule in properties.items()} == msgspec.to_builtins(OPTIONS())


@given(given=GIVEN)
def test_what_an_engine_accepts_the_gateway_accepts_and_passes_on(given: dict[str, Any]) -> None:
    meant = validated(OPTIONS, given)
    sent = msgspec.json.encode(validated(REBUILT, given))
    assert set_of(validated(OPTIONS, msgspec.json.decode(sent))) == set_of(meant)


@pytest.mark.parametrize("name", FIELDS)
@given(data=st.data())
def test_both_sides_refuse_the_same_values(name: str, data: st.DataObject) -> None:
    value = data.draw(
        st.sampled_from(
            [True, -1, 0, 1, 2.5, 99, "", "a", "x", "true", "7", "-1", "0.5", "a long text", [], ["a"], [""]]
        )
    )
    verdicts = []
    for options in (OPTIONS, REBUILT):
        try:
            verdicts.append(msgspec.to_builtins(validated(options, {name: value}))[name])
        except BadInput as error:
            verdicts.append(type(error))
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("options", [OPTIONS, REBUILT])
def test_texts_of_a_form_are_coerced(options: type[msgspec.Struct]) -> None:
    texts = {"flag": "false", "count": "7", "ratio": "0.25", "text": "7", "choice": "b", "level": "2",
             "maybe": "3", "switch": "1", "temperature": "1", "language": "de"}  # fmt: skip
    got = msgspec.to_builtins(validated(options, texts))
    assert {name: got[name] for name in texts} == {
        "flag": False, "count": 7, "ratio": 0.25, "text": "7", "choice": "b", "level": 2,
        "maybe": 3, "switch": True, "temperature": 1.0, "language": "de"}  # fmt: skip


@pytest.mark.parametrize("options", [OPTIONS, REBUILT])
@pytest.mark.parametrize(
    ("name", "value"),
    [("count", "many"), ("beam", 0), ("open_", 9), ("share", 1), ("choice", "c"), ("prompt", "x"),
     ("flag", "perhaps"), ("vocabulary", []), ("temperature", "hot")],
)  # fmt: skip
def test_a_refusal_names_the_option(options: type[msgspec.Struct], name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=rf"option `{name}`\.$") as refusal:
        validated(options, {name: value})
    assert refusal.value.code == "invalid_option"


@pytest.mark.parametrize("options", [OPTIONS, REBUILT])
def test_an_unknown_option_is_refused(options: type[msgspec.Struct]) -> None:
    with pytest.raises(BadInput, match="unknown field `colour`"):
        validated(options, {"colour": "red"})


def test_an_option_needs_a_type_and_a_default() -> None:
    def untyped(self: object, audio: bytes, flag=True) -> None: ...  # type: ignore[no-untyped-def]
    def required(self: object, audio: bytes, flag: bool) -> None: ...

    for method in (untyped, required):
        with pytest.raises(TypeError, match="'flag' needs a type and a default"):
            options_of(method, 1)


def test_one_text_is_a_list_of_one_where_a_list_is_wanted() -> None:
    for kind in (OPTIONS, REBUILT):
        given = validated(kind, {"names": "a", "vocabulary": "b", "text": "c"})
        assert (given.names, given.vocabulary, given.text) == (["a"], ["b"], "c")  # type: ignore[attr-defined]
