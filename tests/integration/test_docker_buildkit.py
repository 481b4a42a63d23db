"""Both of Docker's builders make the same files out of one toolchain's image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import images, toolchains
from harness.engines.docker import Docker
from harness.process import run
from tests.integration.test_docker import engine

pytestmark = pytest.mark.integration

__all__ = ["engine"]  # a fixture

NAME = "llvm/1.0-me-x86_64"
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG SOURCE_DATE_EPOCH
RUN mkdir -p /made/toolchain/bin && cp /usr/bin/env /made/toolchain/bin/opt \\
 && find /made -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE_IMAGE}
COPY --from=0 /made /
"""


@pytest.fixture
def buildkit(engine: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that speaks BuildKit: Debian's does by itself, others need their plugin."""
    monkeypatch.setenv("PATH", f"/usr/bin:{os.environ['PATH']}")
    done = run(
        ["docker", "build", "--help"], env={**os.environ, "DOCKER_BUILDKIT": "1"}, timeout=30
    )
    if done.exit_code or "BuildKit is" in done.output or "--secret" not in done.output:
        pytest.skip("no docker client with BuildKit: install docker.io or docker-buildx")


@pytest.fixture
def definition(engine: Docker, tmp_path: Path) -> Iterator[toolchains.Definition]:
    folder = tmp_path / "mine" / "llvm"
    folder.mkdir(parents=True)
    (folder / "my.Dockerfile").write_text(DOCKERFILE)
    (folder / "1.0-me-x86_64.toml").write_text(
        'version = "1.0"\npublisher = "me"\narch = "x86_64"\n[tools.opt]\npath = "bin/opt"\n'
        '[image]\ndockerfile = "my.Dockerfile"\nbase = "bookworm-amd64"\nonly = true\n'
    )
    yield toolchains.load([tmp_path / "mine"])[NAME]


@pytest.mark.usefixtures("buildkit")
def test_both_builders_make_the_same_layers(
    engine: Docker, definition: toolchains.Definition
) -> None:
    daemon = engine.daemon()
    layers = []
    for buildkit in (False, True):
        image = images.ensure(daemon, definition, buildkit=buildkit)
        found = daemon.image(image)
        assert found is not None
        layers.append(found["RootFS"]["Layers"])
        daemon.remove_image(image)
        assert daemon.image(image) is None
    assert layers[0] == layers[1]
    assert len(layers[0]) == 2
