"""Planning is a pure function: every fleet and request give a sound plan or a sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from dalston_engine.errors import DalstonError
from dalston_engine.stages import STAGES
from dalston_engine.types import Card, ModelCard
from hypothesis import event, given
from hypothesis import strategies as st

from dalston.errors import BadRequest, Refusal
from dalston.orchestrator.plan import Plan, plan
from dalston.request import TranscribeRequest

PARAMS = {
    "type": "object",
    "properties": {
        "language": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "word_timestamps": {"type": "boolean", "default": True},
        "beam_size": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5},
        "vad": {"type": "boolean", "default": False},
        "keyterms": {
            "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
            "default": None,
        },
        "task": {"enum": ["transcribe", "translate"], "default": "transcribe"},
    },
}
READING: dict[str, Any] = {
    "type": "object",
    "properties": {
        "per_channel": {"type": "boolean", "default": False},
        "source_format": {"enum": ["", "pcm_s16le_16k"], "default": ""},
    },
}
CUTTING = {"type": "object", "properties": READING["properties"] | {"split": {"type": "boolean"}}}
JOINING = {"type": "object", "properties": {"words": {"type": "boolean", "default": True}}}
HINTS = {
    "type": "object",
    "properties": {"max_speakers": {"type": "integer"}, "embeddings": {"type": "boolean"}},
}
PREPARE, MERGE = Card("prepare", "prepare", params=READING), Card("merger", "merge")
PLAIN = Card("plain", "prepare")
CUTTER, JOINER = Card("cutter", "prepare", params=CUTTING), Card("joiner", "merge", params=JOINING)
ALIGNER = Card("aligner", "align", languages=["en"], fallback=True)
DIARIZER = Card("diarizer", "diarize", fallback=True, params=HINTS)
TALENTED = Card(
    "talented", "transcribe", characters=True, probabilities=True, speakers=True,
    params={"properties": {name: {"type": "boolean"} for name in ("characters", "diarize")}},
)  # fmt: skip
WHISPER = Card(
    "whisper", "transcribe", default_model="base", hub=True, words=True, params=PARAMS,
    models={"base": ModelCard(["*"], True), "tiny.en": ModelCard(["en"])},
)  # fmt: skip
PARROT = Card("parrot", "transcribe", languages=["en", "fr"])
SCRIPTED = Card("scripted", "transcribe", scripted=True, params=PARAMS)
FLEET = [MERGE, PARROT, PREPARE, SCRIPTED, WHISPER]

LANGUAGES = ["en", "de", "*"]
NAMES = st.sampled_from(["base", "tiny.en", "org/one", "whisper", "parrot", "other"])
MODELS = st.builds(ModelCard, st.lists(st.sampled_from(LANGUAGES), max_size=2), st.booleans())
CARDS = st.builds(
    Card,
    id=st.sampled_from(["prepare", "whisper", "parrot", "merger", "fake", "other", "aligner", "diarizer"]),
    stage=st.sampled_from(sorted(STAGES)),
    languages=st.lists(st.sampled_from(LANGUAGES), max_size=2),
    default_model=st.none() | NAMES,
    hub=st.booleans(),
    words=st.booleans(),
    characters=st.booleans(),
    probabilities=st.booleans(),
    speakers=st.booleans(),
    fallback=st.booleans(),
    scripted=st.booleans(),
    models=st.dictionaries(NAMES, MODELS, max_size=3),
    params=st.sampled_from([{}, PARAMS, READING, CUTTING]),
)
FLEETS = st.lists(CARDS, max_size=7, unique_by=lambda card: card.id)
LIKELY_FLEETS = FLEETS.map(
    lambda cards: [PREPARE, MERGE, *(c for c in cards if c.id not in {"prepare", "merger"})]
)
REQUESTS = st.builds(
    TranscribeRequest,
    model=st.none() | NAMES,
    language=st.none() | st.sampled_from(["en", "de"]),
    speaker_detection=st.sampled_from(["none", "none", "none", "diarize", "per_channel"]),
    task=st.sampled_from(["transcribe", "transcribe", "translate"]),
    characters=st.sampled_from([False, False, True]),
    probabilities=st.sampled_from([False, False, True]),
    source_format=st.sampled_from(["", "", "pcm_s16le_16k"]),
    stream=st.booleans(),
    word_timestamps=st.none() | st.booleans(),
    align=st.none() | st.booleans(),
    aligner=st.sampled_from([None, None, "aligner"]),
    diarizer=st.sampled_from([None, None, "diarizer"]),
    options=st.dictionaries(
        st.sampled_from(["beam_size", "vad", "colour"]), st.sampled_from(["1", "x"]), max_size=1
    ),
)


def planned(fleet: Sequence[Card] = FLEET, **wanted: Any) -> Plan:
    """The plan that a request is given."""
    made = plan("j", TranscribeRequest(**wanted), fleet)
    assert isinstance(made, list), made
    return made


def refused(fleet: Sequence[Card] = FLEET, **wanted: Any) -> DalstonError:
    """The reason why a request is refused."""
    made = plan("j", TranscribeRequest(**wanted), fleet)
    assert isinstance(made, DalstonError), made
    assert_sentence(made)
    return made


def options(made: Plan) -> Any:
    """What the transcribing engine is told."""
    return json.loads(made[1].params)


def assert_sound(made: Plan) -> None:
    """Needs come first, so there is no cycle; all tasks lead to the last, which is the only sink."""
    ids = [task.id for task in made]
    assert len(set(ids)) == len(ids)
    for n, task in enumerate(made):
        assert set(task.needs) <= set(ids[:n])
    needed = {need for task in made for need in task.needs}
    assert [name for name in ids if name not in needed] == ids[-1:]


def assert_sentence(error: DalstonError) -> None:
    """People can read it, and the gateway knows its status."""
    assert error.message.endswith((".", "`."))
    assert len(error.message.split()) > 3
    assert 400 <= error.status < 600
    assert error.code != DalstonError.code


@given(request=REQUESTS, fleet=FLEETS | LIKELY_FLEETS)
def test_every_plan_is_sound_and_every_refusal_a_sentence(
    request: TranscribeRequest, fleet: list[Card]
) -> None:
    made = plan("j", request, fleet)
    event(type(made).__name__)
    if isinstance(made, DalstonError):
        return assert_sentence(made)
    assert_sound(made)
    by_id = {card.id: card for card in fleet}
    for task in made:
        assert by_id[task.engine].stage == task.stage
        named = (request.model, request.aligner, request.diarizer)
        assert task.engine in named or not by_id[task.engine].scripted
    return None


@given(request=REQUESTS, fleet=FLEETS | LIKELY_FLEETS)
def test_the_same_question_has_the_same_answer(request: TranscribeRequest, fleet: list[Card]) -> None:
    first, second = plan("j", request, fleet), plan("j", request, fleet)
    assert str(first) == str(second)


def test_the_simplest_plan_prepares_transcribes_and_merges() -> None:
    made = planned([PREPARE, WHISPER, MERGE])
    assert [task.engine for task in made] == ["prepare", "whisper", "merger"]
    assert_sound(made)
    assert options(made) == {"model": "base"}


@pytest.mark.parametrize(
    ("stage", "missing"), [("prepare", PREPARE), ("transcribe", WHISPER), ("merge", MERGE)]
)
def test_a_missing_stage_is_refused_with_what_runs_and_how_to_start_it(stage: str, missing: Card) -> None:
    error = refused([card for card in (PREPARE, WHISPER, MERGE) if card is not missing])
    assert isinstance(error, Refusal)
    assert error.status == 503
    assert f"can {stage}" in error.message
    assert "dalston up --engines" in error.message


def test_an_unknown_model_is_told_what_there_is() -> None:
    error = refused(model="huge")
    assert (error.code, error.status) == ("unknown_model", 404)
    for name in ("huge", "whisper", "base", "tiny.en", "parrot"):
        assert name in error.message


@pytest.mark.parametrize(
    ("asked", "engine", "model"),
    [("tiny.en", "whisper", "tiny.en"), ("org/one", "whisper", "org/one"), ("whisper", "whisper", "base"),
     ("parrot", "parrot", None), (None, "parrot", None)],
)  # fmt: skip
def test_a_model_is_found_by_its_name_its_engine_or_the_hub(
    asked: str | None, engine: str, model: str | None
) -> None:
    made = planned(model=asked)
    assert made[1].engine == engine
    assert options(made).get("model") == model


def test_a_hub_id_needs_an_engine_that_takes_any() -> None:
    assert refused([PREPARE, PARROT, MERGE], model="org/one").code == "unknown_model"


def test_a_model_of_one_language_refuses_another() -> None:
    error = refused(model="tiny.en", language="de")
    assert (error.code, error.status) == ("unsupported_language", 422)
    assert "'de'" in error.message
    assert "tiny.en" in error.message


def test_an_engine_that_knows_the_language_is_preferred() -> None:
    assert planned(language="de")[1].engine == "whisper"


@pytest.mark.parametrize("asked", ["base", "org/one"])
def test_a_scripted_engine_does_not_answer_to_a_models_name(asked: str) -> None:
    scripted = Card("scripted", "transcribe", scripted=True, hub=True, models={"base": ModelCard(["*"])})
    assert refused([PREPARE, scripted, MERGE], model=asked).code in {"no_engine", "unknown_model"}
    assert planned([PREPARE, scripted, WHISPER, MERGE], model=asked)[1].engine == "whisper"


def test_a_scripted_engine_is_chosen_only_by_its_name() -> None:
    assert refused([PREPARE, SCRIPTED, MERGE]).code == "no_engine"
    assert planned(model="scripted")[1].engine == "scripted"


def test_texts_become_values_of_the_engines_types() -> None:
    made = planned(
        model="whisper", language="de", word_timestamps=False, options={"beam_size": "3", "vad": "true"}
    )
    assert options(made) == {
        "model": "base", "language": "de", "word_timestamps": False, "beam_size": 3, "vad": True}  # fmt: skip


@pytest.mark.parametrize("value", ["many", "0", "21", "2.5"])
def test_an_option_out_of_bounds_is_named(value: str) -> None:
    error = refused(model="whisper", options={"beam_size": value})
    assert (type(error), error.code, error.status) == (BadRequest, "invalid_option", 400)
    assert "`beam_size`" in error.message


def test_all_unknown_options_are_listed_with_those_there_are() -> None:
    error = refused(model="whisper", options={"colour": "red", "size": "1", "vad": "1"})
    assert error.code == "invalid_option"
    for name in ("colour", "size", "beam_size", "vad"):
        assert name in error.message


def test_word_times_are_refused_by_an_engine_without_them() -> None:
    assert refused(model="parrot", word_timestamps=True).code == "unsupported_option"
    assert planned(model="parrot", word_timestamps=False)[1].engine == "parrot"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ({"speaker_detection": "diarize"}, "diarize"),
        ({"characters": True}, "characters"),
        ({"probabilities": True, "model": "parrot"}, "probabilities"),
        ({"task": "translate", "model": "parrot"}, "translate"),
        ({"word_timestamps": True, "model": "parrot"}, "word times"),
    ],
)
def test_what_no_engine_can_do_is_refused_by_its_name(wanted: dict[str, Any], part: str) -> None:
    error = refused(**wanted)
    assert (type(error), error.code, error.status) == (BadRequest, "unsupported_option", 422)
    assert part in error.message


def test_diarizing_is_refused_with_how_to_start_an_engine_for_it() -> None:
    assert "dalston up --engines" in refused(speaker_detection="diarize").message


@pytest.mark.parametrize(
    ("wanted", "engine", "told"),
    [
        ({"speaker_detection": "diarize"}, "talented", {"diarize": True}),
        ({"characters": True}, "talented", {"characters": True}),
        ({"probabilities": True}, "talented", {}),
        ({"task": "translate"}, "whisper", {"model": "base", "task": "translate"}),
        ({"word_timestamps": True}, "whisper", {"model": "base", "word_timestamps": True}),
    ],
)
def test_an_engine_that_can_is_chosen_and_told(wanted: dict[str, Any], engine: str, told: object) -> None:
    made = planned([PREPARE, PARROT, TALENTED, WHISPER, MERGE], **wanted)
    assert made[1].engine == engine
    assert options(made) == told


def test_an_engine_is_told_that_somebody_follows() -> None:
    assert options(planned(model="parrot", stream=True)) == {"stream": True}
    assert options(planned(model="parrot")) == {}


def test_a_single_text_is_a_list_of_one() -> None:
    assert options(planned(model="whisper", options={"keyterms": "Dalston"}))["keyterms"] == ["Dalston"]
    both = planned(model="whisper", options={"keyterms": ["Dalston", "Hackney"]})
    assert options(both)["keyterms"] == ["Dalston", "Hackney"]


def test_channels_are_split_and_each_transcribed() -> None:
    prepare, transcribe, merge = planned(speaker_detection="per_channel")
    assert (prepare.grows, json.loads(prepare.params)) == (True, {"per_channel": True})
    assert transcribe.each
    assert not merge.each
    whole = planned()
    assert not any(task.grows or task.each for task in whole)
    assert whole[0].params == "{}"


CHAIN = [CUTTER, WHISPER, ALIGNER, DIARIZER, JOINER]


def stages(made: Plan) -> dict[str, Any]:
    """Each stage's engine, what it needs, and what it is told."""
    return {t.stage: (t.engine, [n.split(".")[1] for n in t.needs], json.loads(t.params)) for t in made}


def test_speakers_are_told_apart_beside_the_words() -> None:
    made = planned(CHAIN, speaker_detection="diarize")
    assert_sound(made)
    told = stages(made)
    assert list(told) == ["prepare", "transcribe", "align", "diarize", "merge"]
    assert told["diarize"][:2] == ("diarizer", ["prepare"])
    assert told["align"][:2] == ("aligner", ["prepare", "transcribe"])
    assert told["transcribe"][2] == {"model": "base", "word_timestamps": True}
    assert told["merge"][1] == ["prepare", "transcribe", "align", "diarize"]


def test_words_that_were_only_needed_on_the_way_are_left_out() -> None:
    told = stages(planned(CHAIN, speaker_detection="diarize", word_timestamps=False))
    assert told["transcribe"][2]["word_timestamps"] is True
    assert told["merge"][2] == {"words": False}
    told = stages(planned(CHAIN, word_timestamps=False))
    assert told["transcribe"][2]["word_timestamps"] is False
    assert told["merge"][2] == {"words": False}, "the parts of a long recording have words"


def test_alignment_that_nobody_asked_for_is_worth_no_failure() -> None:
    tasks = {task.stage: task for task in planned(CHAIN, speaker_detection="diarize")}
    assert (tasks["align"].required, tasks["diarize"].required) == (False, True)
    assert {task.stage: task for task in planned(CHAIN, align=True)}["align"].required


def test_words_are_aligned_only_where_that_is_asked_or_needed() -> None:
    assert "align" not in stages(planned(CHAIN))
    assert "align" in stages(planned(CHAIN, align=True, language="en"))
    assert "align" not in stages(planned(CHAIN, speaker_detection="diarize", align=False))
    assert "align" not in stages(planned(CHAIN, speaker_detection="diarize", language="de"))
    wordless = planned([CUTTER, PARROT, ALIGNER, JOINER], language=None, word_timestamps=False)
    assert "align" not in stages(wordless)


def test_an_aligner_gives_words_to_an_engine_without() -> None:
    parrot = Card("parrot", "transcribe", params={"properties": {"language": {"type": "string"}}})
    fleet = [CUTTER, parrot, ALIGNER, JOINER]
    assert "align" in stages(planned(fleet, language="en", word_timestamps=True))
    assert "word times" in refused(fleet, word_timestamps=True).message, "of which language, nobody knows yet"


def test_what_cannot_be_aligned_is_refused() -> None:
    assert "align words in de" in refused(CHAIN, align=True, language="de").message
    assert refused(CHAIN, aligner="aligner", language="de").code == "unsupported_option"
    assert refused(CHAIN, aligner="zeppelin").code == "no_such_engine"
    assert "translation" in refused(CHAIN, align=True, task="translate").message
    assert "align" not in stages(planned(CHAIN, speaker_detection="diarize", task="translate"))


@pytest.mark.parametrize(
    "wanted", [{"diarizer": "diarizer"}, {"aligner": "aligner", "align": False, "language": "en"}]
)
def test_what_contradicts_itself_is_refused(wanted: dict[str, Any]) -> None:
    assert refused(CHAIN, **wanted).code == "unsupported_option"


def test_several_engines_come_first_where_one_lacks_an_option() -> None:
    fleet = [TALENTED, *CHAIN]
    asked: dict[str, Any] = {"speaker_detection": "diarize", "options": {"beam_size": "3"}}
    assert "diarize" in stages(planned(fleet, **asked))


def test_word_times_from_an_aligner_are_worth_a_failure_when_asked_for() -> None:
    parrot = Card("parrot", "transcribe", params={"properties": {"language": {"type": "string"}}})
    tasks = planned([CUTTER, parrot, ALIGNER, JOINER], language="en", word_timestamps=True)
    assert {task.stage: task.required for task in tasks}["align"]


def test_a_diarizer_is_told_what_is_known_of_the_speakers() -> None:
    told = stages(planned(CHAIN, speaker_detection="diarize", options={"max_speakers": "3", "vad": "1"}))
    assert told["diarize"][2]["max_speakers"] == 3
    assert told["transcribe"][2]["vad"] is True
    assert "vad" not in told["diarize"][2]
    error = refused(CHAIN, speaker_detection="diarize", options={"colour": "red"})
    assert error.code == "invalid_option"
    assert "max_speakers" in error.message
    assert refused(CHAIN, options={"max_speakers": "3"}).code == "invalid_option"


def test_one_engine_that_does_it_all_comes_before_several() -> None:
    whole = [TALENTED, *CHAIN]
    made = planned(whole, speaker_detection="diarize")
    assert [task.engine for task in made] == ["cutter", "talented", "joiner"]
    assert options(made)["diarize"] is True
    assert planned(whole, speaker_detection="diarize", diarizer="diarizer")[-2].engine == "diarizer"
    assert planned(whole, speaker_detection="diarize", model="whisper")[-2].engine == "diarizer"


def test_weights_at_hand_come_before_a_fallback_and_a_fallback_before_weights_to_be_fetched() -> None:
    real = {"there": ModelCard(["*"], True), "afar": ModelCard(["*"])}
    for model, engine in (("there", "better"), ("afar", "diarizer")):
        better = Card("better", "diarize", default_model=model, models=real)
        made = planned([*CHAIN, better], speaker_detection="diarize")
        assert stages(made)["diarize"][0] == engine
    assert planned([*CHAIN, better], speaker_detection="diarize", diarizer="better")[-2].engine == "better"


def test_an_aligner_with_a_model_for_each_language_comes_first_where_it_has_it() -> None:
    models = {"there": ModelCard(["en"], True), "afar": ModelCard(["de"]), "whose": ModelCard(["*"], True)}
    many = Card("many", "align", languages=["en", "de"], models=models)
    english = Card("english", "align", languages=["en", "de"], fallback=True)
    for language, engine in (("en", "many"), ("de", "english"), (None, "many")):
        told = stages(planned([*CHAIN[:2], many, english, JOINER], align=True, language=language))
        assert told["align"] == (engine, ["prepare", "transcribe"], {})


def test_a_long_recording_may_be_cut_unless_somebody_follows_or_one_engine_hears_it_all() -> None:
    made = planned(CHAIN, speaker_detection="diarize")
    each = {task.stage: task.each for task in made}
    assert each == {"prepare": False, "transcribe": True, "align": True, "diarize": False, "merge": False}
    assert (made[0].grows, json.loads(made[0].params)) == (True, {"split": True})
    for whole in (
        planned(CHAIN, stream=True),
        planned([TALENTED, *CHAIN], speaker_detection="diarize"),
        planned([PREPARE, WHISPER, MERGE]),
    ):
        assert not any(task.grows or task.each for task in whole)
    assert json.loads(planned(CHAIN, speaker_detection="per_channel")[0].params) == {"per_channel": True}


def test_raw_samples_are_read_as_told() -> None:
    made = planned(source_format="pcm_s16le_16k")
    assert json.loads(made[0].params) == {"source_format": "pcm_s16le_16k"}


@pytest.mark.parametrize("wanted", [{"speaker_detection": "per_channel"}, {"source_format": "pcm_s16le_16k"}])
def test_a_prepare_engine_that_cannot_read_so_is_refused(wanted: dict[str, Any]) -> None:
    error = refused([PLAIN, WHISPER, MERGE], **wanted)
    assert (error.code, error.status) == ("unsupported_option", 422)
    assert "plain" in error.message
