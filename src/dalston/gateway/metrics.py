"""`/metrics`: queues, engines, jobs and this gateway's own answers, for Prometheus.

What engines do comes with their heartbeats, so nobody needs a port of their own; it is read anew for
every scrape.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from dalston_engine import keys
from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dalston.gateway.access import ADMINISTER
from dalston.gateway.examples import METRIC
from dalston.gateway.openapi import plain
from dalston.gateway.realtime import LiveStatus, status
from dalston.gateway.state import State
from dalston.store.client import Client
from dalston.store.fleet import Engine, engines
from dalston.store.load import Load, loads

router = APIRouter(tags=["health"], dependencies=[ADMINISTER])

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OUTCOMES = ("completed", "failed", "retry", "postponed", "released", "cancelled", "lost")


def families() -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Every metric but those of the process: name, type, what it is, labels."""
    own = Metrics(process=False)
    gathered: list[Any] = [
        *own.registry.collect(),
        *_jobs(0, 0, 0, 0),
        *_webhooks(0, 0, {}),
        *_queues([], {}),
        *_work([]),
        *_live(LiveStatus([], 0, 0, 0, {})),
    ]
    labels: dict[str, Any] = {"dalston_http_request_seconds": own.labels}
    return [
        (
            one.name,
            one.type,
            one.documentation,
            labels.get(one.name) or tuple(getattr(one, "_labelnames", ())),
        )
        for one in gathered
    ]


class Metrics:
    """One gateway's own numbers."""

    labels = ("method", "route", "status")

    def __init__(self, process: bool = True) -> None:
        self.registry = CollectorRegistry()
        self.answers = Histogram(
            "dalston_http_request_seconds",
            "From a request to the beginning of its answer",
            self.labels,
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.live = Gauge(
            "dalston_live_connections", "Live sessions that this gateway looks after", registry=self.registry
        )
        self.waiting = Gauge(
            "dalston_callers_waiting", "Callers that wait to be let in", registry=self.registry
        )
        if process:
            ProcessCollector(registry=self.registry)


class Watched:
    """Notes how long every answer took to begin."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in METHODS else "other"
                labels = method, route, str(message["status"])
                self.metrics.answers.labels(*labels).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, watched)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=plain("Prometheus' text format", "text/plain", METRIC),
)
async def metrics(request: Request) -> Response:
    """Queues, engines, jobs and this gateway's answers in Prometheus' text format."""
    state, own = State.of(request), request.app.state.metrics
    own.waiting.set(len(state.line))
    own.live.set(len(request.app.state.live))
    redis = state.redis
    everywhere = CollectorRegistry()
    live = _live(await status(redis))
    everywhere.register(_Gathered([*await _of_jobs(redis), *await _of_engines(redis), *live]))
    content = generate_latest(own.registry) + generate_latest(everywhere)
    return Response(content, media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Gathered:
    """Metrics that have been read already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


async def _of_jobs(redis: Client) -> list[Metric]:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.zcard(keys.JOBS())
        pipe.zcard(keys.ACTIVE())
        pipe.zcard(keys.DELAYED())
        pipe.hget(keys.SWEEP(), "reclaimed")
        pipe.zcard(keys.DELIVERIES())
        pipe.zcard(keys.UNDELIVERED())
        pipe.hgetall(keys.TOLD())
        listed, active, delayed, reclaimed, due, dead, told = await pipe.execute()
    return [*_jobs(listed, active, delayed, int(reclaimed or 0)), *_webhooks(due, dead, told)]


def _webhooks(due: int, dead: int, told: dict[str, str]) -> list[Metric]:
    attempts = CounterMetricFamily(
        "dalston_webhook_attempts", "Attempts to tell webhooks, by outcome", labels=["outcome"]
    )
    for outcome in ("delivered", "failed"):
        attempts.add_metric([outcome], int(told.get(outcome, 0)))
    return [
        attempts,
        GaugeMetricFamily("dalston_webhook_due", "Deliveries that are still to be made", due),
        GaugeMetricFamily("dalston_webhook_dead", "Deliveries that were given up", dead),
    ]


def _jobs(listed: int, active: int, delayed: int, reclaimed: int) -> list[Metric]:
    return [
        GaugeMetricFamily("dalston_jobs", "Jobs that are kept", listed),
        GaugeMetricFamily("dalston_jobs_active", "Jobs that have not ended", active),
        GaugeMetricFamily("dalston_tasks_delayed", "Tasks that wait to be tried again", delayed),
        CounterMetricFamily("dalston_leases_lost", "Leases that ran out: dead engines", reclaimed),
    ]


async def _of_engines(redis: Client) -> list[Metric]:
    running = await engines(redis)
    stages = {engine.card.id: engine.card.stage for engine in running}
    known = sorted(set(await redis.smembers(keys.QUEUES())) | set(stages))
    async with redis.pipeline(transaction=False) as pipe:
        for engine in known:
            pipe.xlen(keys.DEAD(engine=engine))
        letters = dict(zip(known, await pipe.execute(), strict=True))
    return [*_queues(await loads(redis, known), letters), *_work(running)]


def _queues(found: Sequence[Load], letters: dict[str, int]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("dalston_queue_waiting", "Tasks that wait for an engine", labels=["engine"])
    busy = GaugeMetricFamily("dalston_queue_running", "Tasks that an engine works on", labels=["engine"])
    dead = GaugeMetricFamily("dalston_dead_letters", "Tasks that were given up", labels=["engine"])
    for one in found:
        waiting.add_metric([one.engine], one.waiting)
        busy.add_metric([one.engine], one.running)
        dead.add_metric([one.engine], letters[one.engine])
    yield from (waiting, busy, dead)


def _work(running: Sequence[Engine]) -> Iterator[Metric]:
    labels = ["engine", "stage", "instance"]
    up = GaugeMetricFamily("dalston_engine_up", "Running instances, by state", labels=[*labels, "state"])
    tasks = CounterMetricFamily("dalston_engine_tasks", "Tasks by outcome", labels=[*labels, "outcome"])
    seconds = CounterMetricFamily("dalston_stage_seconds", "Seconds of work in a stage", labels=labels)
    audio = CounterMetricFamily("dalston_stage_audio_seconds", "Seconds of audio worked on", labels=labels)
    factor = GaugeMetricFamily(
        "dalston_stage_real_time_factor", "Seconds of work for a second of audio", labels=labels
    )
    for engine in running:
        for one in engine.instances:
            named, done = [engine.card.id, engine.card.stage, one.id], one.totals
            up.add_metric([*named, one.state], 1)
            for outcome in OUTCOMES:
                if outcome in done:
                    tasks.add_metric([*named, outcome], done[outcome])
            seconds.add_metric(named, done.get("seconds", 0))
            audio.add_metric(named, done.get("audio", 0))
            if done.get("audio"):
                factor.add_metric(named, done["seconds"] / done["audio"])
    yield from (up, tasks, seconds, audio, factor)


def _live(found: LiveStatus) -> Iterator[Metric]:
    labels, done = ["engine", "worker"], found.totals
    up = GaugeMetricFamily("dalston_live_workers", "Workers of live sessions, by state", labels=["state"])
    for state in sorted({one.state for one in found.workers}):
        up.add_metric([state], sum(one.state == state for one in found.workers))
    room = GaugeMetricFamily("dalston_live_capacity", "Live sessions that a worker takes", labels=labels)
    taken = GaugeMetricFamily("dalston_live_sessions", "Live sessions that a worker was given", labels=labels)
    busy = GaugeMetricFamily("dalston_live_busy", "Share of its time that a worker decodes", labels=labels)
    late = GaugeMetricFamily(
        "dalston_live_final_seconds",
        "From the known end of an utterance to its final, lately",
        labels=[*labels, "quantile"],
    )
    for one in found.workers:
        named, load = [one.engine, one.id], msgspec.json.decode(one.load, type=dict[str, Any])
        room.add_metric(named, one.capacity)
        taken.add_metric(named, one.sessions)
        if isinstance(load.get("busy"), int | float):
            busy.add_metric(named, load["busy"])
        for name, quantile in (("final_p50", "0.5"), ("final_p95", "0.95")):
            if isinstance(load.get(name), int | float):
                late.add_metric([*named, quantile], load[name])
    ends = CounterMetricFamily("dalston_live_ends", "Live sessions over, by how they ended", labels=["cause"])
    for cause in ("ended", "failed", "vanished"):
        ends.add_metric([cause], done.get(cause, 0))
    yield from (up, room, taken, busy, late, ends)
    yield CounterMetricFamily("dalston_live_begun", "Live sessions begun", done.get("sessions", 0))
    yield CounterMetricFamily("dalston_live_finals", "Utterances logged", done.get("finals", 0))
    yield CounterMetricFamily("dalston_live_moves", "Sessions moved or taken up again", done.get("moves", 0))
    yield CounterMetricFamily("dalston_live_refused", "Sessions refused: no room", done.get("refused", 0))
