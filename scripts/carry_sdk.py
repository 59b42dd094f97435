"""A hook of the build: the server's wheel carries the SDK's wheel, which engine environments install."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilder


class CarrySdk(BuildHookInterface):  # type: ignore[misc]
    """Builds `sdk/` aside and puts the result into `dalston/_sdk`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a checkout installs the SDK from its own folder
            return
        self.aside = tempfile.TemporaryDirectory()
        sdk = WheelBuilder(str(Path(self.root) / "sdk"))
        for wheel in sdk.build(directory=self.aside.name, versions=["standard"]):
            build_data["force_include"][wheel] = f"dalston/_sdk/{Path(wheel).name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self.aside.cleanup()
