"""Keys: who gets in, and who sees what."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dalston.gateway.access import FAILURES, Failures
from dalston.store.access_keys import AccessKeys, Limits, Scope, Wanted
from tests.e2e.conftest import DALSTON, SCRIPTED, Server, serving
from tests.security import craft

PATH = "/v1/audio/transcriptions"


SHUT = (401, 429)
"""Not let in; the second after many failures."""


class Keyed:
    """A server that wants keys, and three of them."""

    def __init__(self, server: Server, data: Path) -> None:
        self.server, self.keys = server, AccessKeys(data)
        scopes: dict[str, Scope] = {
            "ann": "transcribe",
            "bob": "transcribe",
            "live": "realtime",
            "root": "admin",
        }
        self.secrets = {name: self.keys.make(Wanted(name, [scope]))[1] for name, scope in scopes.items()}

    def ask(self, who: str | None, method: str, path: str, **more: Any) -> httpx2.Response:
        """A request with somebody's key, or none."""
        headers = {"authorization": f"Bearer {self.secrets.get(who, who)}"} if who else {}
        return self.server.client.request(method, path, headers=headers | more.pop("headers", {}), **more)

    def submitted(self, who: str) -> str:
        """Somebody's finished job."""
        answer = self.ask(who, "POST", PATH, data={"wait": "true", "model": "fake"}, files=FILE)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])


FILE = {"file": ("talk.wav", craft.wav())}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """A server that wants keys."""
    data = tmp_path_factory.mktemp("keyed")
    AccessKeys(data).make(Wanted("first"))
    with serving(data, SCRIPTED, DALSTON_KEYS="required", DALSTON_CORS_ORIGINS="https://a.example") as server:
        yield Keyed(server, data)


def test_a_key_comes_in_any_of_the_headers(keyed: Keyed) -> None:
    assert keyed.ask("ann", "GET", PATH).status_code == 200
    secret = keyed.secrets["ann"]
    for headers in ({"xi-api-key": secret}, {"authorization": f"bearer {secret}"}):
        assert keyed.server.client.get(PATH, headers=headers).status_code == 200


def test_nobody_else_gets_in(keyed: Keyed) -> None:
    gone, secret = keyed.keys.make(Wanted("gone"))
    assert keyed.server.client.get(PATH, headers={"xi-api-key": secret}).status_code == 200
    keyed.keys.revoke(gone.id)
    for headers in ({}, {"xi-api-key": "sk-any"}, {"xi-api-key": secret}, {"xi-api-key": "../keys"}):
        answer = keyed.server.client.get(PATH, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert secret not in answer.text
    vendor = keyed.server.client.post("/v1/speech-to-text", headers={"x-dalston-api": ""})
    assert (vendor.status_code, vendor.json()["detail"]["status"]) == (401, "invalid_api_key")
    openai = keyed.server.client.get("/v1/models", headers={"x-dalston-api": ""})
    assert (openai.status_code, openai.json()["error"]["type"]) == (401, "invalid_request_error")
    assert keyed.server.client.get("/health").status_code == 200


def test_every_route_needs_a_key_and_every_job_its_owner(keyed: Keyed) -> None:
    """Routes are taken from the document, so none can be forgotten."""
    document = keyed.server.client.get("/openapi.json").json()
    job = keyed.submitted("ann")
    tried = 0
    for path, methods in document["paths"].items():
        if path in ("/health", "/ready", "/v1/events"):
            continue
        for method in methods:
            with httpx2.Client(base_url=keyed.server.url) as stranger:
                keyed_path = path.replace("{job}", job).replace("{transcription_id}", job)
                assert stranger.request(method, keyed_path).status_code in SHUT, path
            if keyed_path != path:
                assert keyed.ask("bob", method, keyed_path).status_code == 404, path
                tried += 1
    assert tried >= 6
    assert keyed.ask("ann", "GET", f"{PATH}/{job}").status_code == 200
    assert keyed.ask("root", "GET", f"{PATH}/{job}").status_code == 200


def test_lists_and_events_show_ones_own(keyed: Keyed) -> None:
    anns, bobs = keyed.submitted("ann"), keyed.submitted("bob")

    def listed(who: str) -> set[str]:
        return {job["id"] for job in keyed.ask(who, "GET", PATH, params={"limit": 1000}).json()["jobs"]}

    assert anns in listed("ann")
    assert bobs not in listed("ann")
    assert {anns, bobs} <= listed("root")
    headers = {"authorization": f"Bearer {keyed.secrets['bob']}", "last-event-id": "0-0"}
    with keyed.server.client.stream("GET", "/v1/events", headers=headers) as answer:
        lines = itertools.takewhile(
            lambda line: f'"job":"{bobs}","state":"completed"}}' not in line, answer.iter_lines()
        )
        assert anns not in "".join(lines)


def test_scopes_are_kept_apart(keyed: Keyed) -> None:
    assert keyed.ask("live", "POST", PATH, data={"model": "fake"}, files=FILE).status_code == 403
    for path in ("/metrics", "/v1/dead-letters", "/v1/engines/fake/load", "/v1/keys"):
        answer = keyed.ask("ann", "GET", path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")
        assert keyed.ask("root", "GET", path).status_code == 200
    assert keyed.ask("ann", "GET", "/v1/engines").status_code == 200


def test_a_token_opens_one_request(keyed: Keyed) -> None:
    made = keyed.ask("ann", "POST", "/v1/single-use-token/batch_scribe").json()["token"]
    form: Any = {"data": {"model_id": "fake"}, "files": FILE, "params": {"token": made}}
    dummy = keyed.ask("sk-any", "POST", "/v1/speech-to-text", **form)  # as an SDK with a key of its own
    assert dummy.status_code == 200
    assert keyed.ask(None, "POST", "/v1/speech-to-text", **form).status_code in SHUT
    assert keyed.ask("live", "POST", "/v1/single-use-token/batch_scribe").status_code == 403
    live = keyed.ask("ann", "POST", "/v1/single-use-token/realtime_scribe").json()["token"]
    assert (
        keyed.ask(None, "POST", "/v1/speech-to-text", **form | {"params": {"token": live}}).status_code == 403
    )
    assert keyed.ask("ann", "POST", "/v1/single-use-token/tts_websocket").status_code == 400


def test_keys_are_made_listed_and_revoked_by_api(keyed: Keyed) -> None:
    made = keyed.ask(
        "root", "POST", "/v1/keys", json={"name": "shop", "owner": "shop", "scopes": ["transcribe"]}
    )
    key = made.json()
    assert made.status_code == 201
    assert keyed.ask(key["secret"], "GET", PATH).status_code == 200
    listed = keyed.ask("root", "GET", "/v1/keys").text
    assert key["id"] in listed
    assert key["secret"] not in listed
    assert keyed.ask("root", "DELETE", f"/v1/keys/{key['id']}").status_code == 204
    assert keyed.ask(key["secret"], "GET", PATH).status_code in SHUT
    assert keyed.ask("root", "DELETE", f"/v1/keys/{key['id']}").status_code == 404
    for wrong in (
        {"name": ""},
        {"name": "x", "scopes": ["all"]},
        {"name": "x", "owner": "../x"},
        {"nam": "x"},
    ):
        assert keyed.ask("root", "POST", "/v1/keys", json=wrong).status_code == 400


def test_a_page_that_is_named_may_call(keyed: Keyed) -> None:
    for origin, allowed in (("https://a.example", True), ("https://b.example", False)):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        answer = keyed.server.client.options("/v1/speech-to-text", headers=headers)
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


def test_keys_from_the_command_line_need_no_server(tmp_path: Path) -> None:
    def dalston(*words: str) -> str:
        done = subprocess.run(
            [*DALSTON, "key", *words], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        return done.stdout

    secret = dalston("create", "shop", "--scope", "admin", "--concurrent-jobs", "3").strip()
    key = AccessKeys(tmp_path / "data").find(secret)
    assert key is not None
    assert (key.name, key.scopes, key.limits) == ("shop", ["admin"], Limits(concurrent_jobs=3))
    listed = dalston("list")
    assert key.id in listed
    assert "3 jobs at once" in listed
    assert secret not in dalston("list", "--json")
    dalston("revoke", key.id)
    assert AccessKeys(tmp_path / "data").find(secret) is None
    assert secret.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_on_loopback_a_key_of_ours_counts_and_any_other_is_ignored(tmp_path: Path) -> None:
    key, secret = AccessKeys(tmp_path).make(Wanted("ann"))
    with serving(tmp_path, SCRIPTED) as server:
        ask = server.client
        assert ask.get(PATH, headers={"authorization": "Bearer sk-test"}).status_code == 200
        assert ask.get(PATH, headers={"xi-api-key": "dk_unknown"}).status_code == 401
        mine = ask.post(
            PATH, data={"wait": "true", "model": "fake"}, files=FILE, headers={"xi-api-key": secret}
        )
        others = ask.post(PATH, data={"wait": "true", "model": "fake"}, files=FILE)
        listed = ask.get(PATH, headers={"xi-api-key": secret}).json()["jobs"]
        assert [job["id"] for job in listed] == [mine.json()["id"]]
        assert len(ask.get(PATH).json()["jobs"]) == 2
        assert ask.get(f"{PATH}/{others.json()['id']}", headers={"xi-api-key": secret}).status_code == 404
    assert key.owner == key.id


def test_who_fails_too_often_waits() -> None:
    failures = Failures()
    for _ in range(FAILURES):
        failures.refuse("10.0.0.1")
        failures.note("10.0.0.1")
    with pytest.raises(Exception, match="Too many failed") as refused:
        failures.refuse("10.0.0.1")
    assert 0 < getattr(refused.value, "retry_after", 0) <= 60
    failures.refuse("10.0.0.2")


def test_a_server_that_others_reach_does_not_start_without_a_key(tmp_path: Path) -> None:
    done = subprocess.run([*DALSTON, "up", "--host", "0.0.0.0", "--data", str(tmp_path / "d"), "--port", "0"],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 1
    assert "dalston key create" in done.stderr
