"""Holds an engine's loaded models and performs tasks with them; knows nothing of Redis."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator
from threading import Lock
from typing import Any

import msgspec

from dalston_engine.engine import Engine
from dalston_engine.errors import BadInput, DalstonError, ModelUnavailable
from dalston_engine.manifest import Manifest
from dalston_engine.models import Models
from dalston_engine.parameters import from_environment, options_of, schema_of, validated
from dalston_engine.stages import STAGES
from dalston_engine.types import About, Card, Transcript

Options = dict[str, Any]
Call = Callable[[Any], None]
MODELS_HELD = 2
"""How many models stay loaded beside those of running sessions; the one unused longest makes room."""


class Host:
    """One engine class with its manifest: its card, its models in memory, its method."""

    def __init__(self, engine: type[Engine], manifest: Manifest, models: Models) -> None:
        self.engine, self.manifest, self.models = engine, manifest, models
        self.stage = STAGES[manifest.stage]
        for stage in (self.stage, *([STAGES["listen"]] if manifest.listens else [])):
            if not hasattr(engine, stage.name):
                raise TypeError(f"{engine.__name__} is a {stage.name} engine: it needs a method "
                                f"{stage.name}({', '.join(('self', *stage.takes))}, …)")  # fmt: skip
        self.options = options_of(getattr(engine, self.stage.name), len(self.stage.takes))
        self._settings = options_of(engine.load, 1 if manifest.models else 0)
        self._loaded: OrderedDict[str | None, Engine] = OrderedDict()
        self._table, self._loading = Lock(), Lock()
        self.kept: Collection[str] = ()
        """Models of running sessions: the live side says which; they are not dropped."""

    def card(self) -> Card:
        """How this engine describes itself now."""
        about = {name: getattr(self.manifest, name) for name in About.__struct_fields__}
        about["hub"] = self.manifest.hub and not self.models.offline
        return Card(**about, models=self.models.cards(), params=schema_of(self.options))

    def loaded(self, model: str | None) -> Engine:
        """The engine with that model (or the default one) in memory; raises ModelUnavailable.

        One model is loaded at a time, and no thread that wants another waits for it.
        """
        name = model or self.manifest.default_model
        if (engine := self._held(name)) is None:
            with self._loading:
                if (engine := self._held(name)) is None:
                    self._make_room()
                    engine = self._load(name)
                    with self._table:
                        self._loaded[name] = engine
        return engine

    def listen(self, model: str | None, batch: list[Any]) -> list[Transcript]:
        """What was said in each utterance of live sessions, while another thread may `perform`.

        Raises ModelUnavailable, and whatever the engine does.
        """
        answers: list[Transcript] = self.loaded(model).listen(batch)  # type: ignore[attr-defined]
        if len(answers) != len(batch):
            told = f"{self.manifest.id} answered {len(answers)} of {len(batch)} utterances."
            raise BadInput(told, status=500)
        return answers

    def perform(self, params: Options, given: list[Any], report: Call, tell: Call) -> tuple[Any, float]:
        """Run the stage's method; returns its result and the seconds it took, loading not counted.

        `report` is told its progress, `tell` the segments that it yields.
        """
        options = validated(self.options, {k: v for k, v in params.items() if k != "model"})
        engine = self.loaded(params.get("model"))
        engine.report = report
        started = time.perf_counter()
        result = getattr(engine, self.stage.name)(*given, **msgspec.structs.asdict(options))
        while isinstance(result, Generator):
            try:
                tell(next(result))
            except StopIteration as end:
                result = end.value
        seconds = time.perf_counter() - started
        if not isinstance(result, self.stage.result):
            raise BadInput(f"{self.manifest.id} returned no {self.stage.result.__name__}.", status=500)
        return result, seconds

    def _held(self, name: str | None) -> Engine | None:
        with self._table:
            if name in self._loaded:
                self._loaded.move_to_end(name)
            return self._loaded.get(name)

    def _make_room(self) -> None:
        with self._table:
            idle = [name for name in self._loaded if name not in self.kept]
            if len(idle) >= MODELS_HELD:
                del self._loaded[idle[0]]

    def _load(self, name: str | None) -> Engine:
        engine = self.engine()
        engine.models = self.models
        prefix = f"DALSTON_{re.sub('[-.]', '_', self.manifest.id.upper())}_"
        settings = msgspec.structs.asdict(from_environment(self._settings, prefix))
        try:
            engine.load(*([name] if self.manifest.models else []), **settings)
        except DalstonError:
            raise
        except Exception as error:
            raise ModelUnavailable(f"{name} could not be loaded: {type(error).__name__}.") from error
        return engine
