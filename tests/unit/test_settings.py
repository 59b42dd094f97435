"""Settings: where each comes from, and every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dalston import settings
from dalston.settings import BadSettings, Settings, load, refuse_open, sources

NAMES = list(Settings.__struct_fields__)


@pytest.fixture(autouse=True)
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings file would be; no variable is set."""
    monkeypatch.delenv("DALSTON_DATA")
    monkeypatch.setenv("DALSTON_CONFIG", str(tmp_path / "dalston.toml"))
    return tmp_path / "dalston.toml"


def test_defaults_are_in_force_when_nothing_is_said() -> None:
    assert load() == Settings()
    assert {source for _, source in sources().values()} == {"default"}


def test_the_command_line_beats_variables_beat_the_file_beat_defaults(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text("port = 1\nkeep = 61\nhost = 'localhost'\n")
    monkeypatch.setenv("DALSTON_PORT", "2")
    monkeypatch.setenv("DALSTON_KEEP", "62")
    got = load(port=3, keep=None)
    assert (got.port, got.keep, got.host, got.log_level) == (3, 62, "localhost", "INFO")
    origins = [sources(port=3)[name][1] for name in ("port", "keep", "host", "log_level")]
    assert origins == ["command line", "DALSTON_KEEP", "dalston.toml", "default"]


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_a_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value: Any = {int: 70, bool: True}.get(type(getattr(Settings(), name)), "DEBUG")
    value = {
        "max_upload": "7MB",
        "log_format": "json",
        "upload_timeout": "5m",
        "retention": "30d",
        "engine_absent_timeout": "90s",
        "live_grace": "20s",
        "behind": "container-network",
        "model_names": "whisper-1=base",
        "keys": "required",
        "fetch_timeout": "3m",
        "wait_timeout": "2m",
        "webhook_retries": "1s,1m",
    }.get(name, value)
    monkeypatch.setenv(f"DALSTON_{name.upper()}", str(value))
    assert getattr(load(), name) == value


def test_processes_are_told_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Settings(port=9, offline=True, engines="a,b", max_upload="1KB")
    for name, value in settings.environment(told).items():
        monkeypatch.setenv(name, value)
    assert load() == told


def test_all_problems_are_listed_at_once_with_variable_and_value(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text("keep = 'long'\n")
    for name, value in {"PORT": "eighty", "MAX_UPLOAD": "2gig", "OFFLINE": "perhaps"}.items():
        monkeypatch.setenv(f"DALSTON_{name}", value)
    with pytest.raises(BadSettings) as refusal:
        load()
    lines = refusal.value.message.splitlines()
    for start in (
        "DALSTON_PORT = 'eighty': ",
        "DALSTON_OFFLINE = 'perhaps': ",
        "keep (dalston.toml) = 'long': ",
    ):
        assert [line for line in lines if line.startswith(start)], start
    assert "DALSTON_MAX_UPLOAD = '2gig': expected a size such as 500MB or 2GB" in lines
    assert len(lines) == 4


def test_unknown_settings_in_the_file_are_listed(toml: Path) -> None:
    toml.write_text("prot = 1\nhots = 'x'\n")
    with pytest.raises(BadSettings, match="unknown settings hots, prot"):
        load()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12", 12),
        ("12B", 12),
        ("1KB", 1000),
        ("500MB", 500 * 10**6),
        ("1.5 gb", 15 * 10**8),
        (" 2TB ", 2 * 10**12),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert Settings(max_upload=text).max_upload_bytes == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("12 H", 43_200), ("30d", 2_592_000), ("", None)]
)
def test_a_time_is_read(text: str, seconds: int | None) -> None:
    assert Settings(retention=text).retention_s == seconds


@pytest.mark.parametrize("text", ["d", "-1d", "1.5h", "2 weeks", "30"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="expected a time"):
        load(retention=text)


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e3", "2gig", "5 G", "1,5GB", "1GBs"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="expected a size"):
        load(max_upload=text)


def test_the_data_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load().folder == tmp_path / ".local" / "share" / "dalston"
    assert load(data="here").folder == Path.cwd() / "here"


def test_a_file_that_is_no_toml_is_one_sentence(toml: Path) -> None:
    toml.write_text("port 1\n")
    with pytest.raises(BadSettings, match=r"dalston\.toml"):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 65536), ("port", -1), ("keep", 59), ("log_level", "LOUD"), ("log_format", "xml")],
)
def test_a_value_that_no_process_can_use_is_refused(name: str, value: object) -> None:
    with pytest.raises(BadSettings, match=name):
        load(**{name: value})


def test_every_setting_is_described() -> None:
    source = Path(settings.__file__).read_text()
    for field in msgspec.structs.fields(Settings):
        assert f"    {field.name}: " in source
        assert source.split(f"    {field.name}: ")[1].split("\n")[1].strip().startswith('"""'), field.name


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_nothing(host: str) -> None:
    refuse_open(Settings(host=host), keys=False)
    assert not Settings(host=host).keyed


def test_every_other_address_needs_a_key() -> None:
    with pytest.raises(BadSettings, match="dalston key create"):
        refuse_open(Settings(host="0.0.0.0"), keys=False)
    with pytest.raises(BadSettings, match="dalston key create"):
        refuse_open(Settings(keys="required"), keys=False)
    refuse_open(Settings(host="0.0.0.0"), keys=True)
    refuse_open(Settings(host="0.0.0.0", admin_key="dk_" + "x" * 32), keys=False)
    with pytest.raises(BadSettings, match="nobody can guess"):
        refuse_open(Settings(admin_key="secret"), keys=False)
    assert Settings(host="0.0.0.0").keyed


def test_or_a_container_that_says_what_it_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setattr(settings, "CONTAINER_MARKS", (str(mark),))
    behind = Settings(host="0.0.0.0", behind="container-network")
    with pytest.raises(BadSettings, match="this is no container"):
        refuse_open(behind, keys=False)
    mark.touch()
    refuse_open(behind, keys=False)
    with pytest.raises(BadSettings, match="behind"):
        load(behind="a wall")
