"""The Docker Engine API, through Docker's SDK. Podman's socket speaks it too.

The only file that imports the SDK. ``DOCKER_HOST`` says where the daemon is, as for every client.
Every failure becomes an EngineError that says whether the daemon is gone, or what it refused.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import EngineError
from harness.text import printable

TIMEOUT_SECONDS = 60
_BLOCK = 1 << 20
Json = dict[str, Any]


class Daemon:
    """One daemon. All methods can be called from any thread, and raise EngineError."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    def connect(cls) -> Daemon:
        """The daemon that answers here."""
        try:
            docker = importlib.import_module("docker")  # slow, and most commands never need it
        except ImportError:
            raise EngineError("Docker's SDK for Python is missing", "pip install docker") from None
        with _explained():
            options = docker.utils.kwargs_from_env()
            return cls(docker.APIClient(version="auto", timeout=TIMEOUT_SECONDS, **options))

    def info(self) -> Json:
        with _explained():
            return dict(self._client.info())

    def version(self) -> Json:
        with _explained():
            return dict(self._client.version())

    # images

    def image(self, name: str) -> Json | None:
        """What is known of an image, by id, tag or ``name@sha256:…``; None if it is not here."""
        with _explained():
            try:
                return dict(self._client.inspect_image(name))
            except Exception as error:
                if _status(error) == 404:
                    return None
                raise

    def load(self, archive: Path) -> None:
        """Load a file as ``docker save`` writes it."""
        with _explained(), archive.open("rb") as stream:
            for line in self._client.load_image(stream):
                _check(line)

    def tag(self, image: str, repository: str, tag: str) -> None:
        with _explained():
            self._client.tag(image, repository, tag)

    def build(self, context: BinaryIO, options: Mapping[str, Any]) -> Iterator[str]:
        """Build from a tar file with the classic builder; yields what it says, line by line."""
        with _explained():
            lines = self._client.build(
                fileobj=context, custom_context=True, decode=True, timeout=None, **options
            )
            for line in lines:
                yield _check(line)

    def remove_image(self, name: str) -> None:
        with _explained():
            self._client.remove_image(name, force=True)

    # containers

    def create(self, config: Json, name: str | None) -> str:
        """Create a container; its id. ``config`` is the body of the API's request."""
        with _explained():
            return str(self._client.create_container_from_config(config, name)["Id"])

    def attach(self, container: str) -> Iterator[bytes]:
        """What the container prints, both streams in one, from now until it ends."""
        with _explained():
            stream: Iterator[bytes] = self._client.attach(
                container, stdout=True, stderr=True, stream=True, logs=False
            )
            return stream

    def start(self, container: str) -> None:
        with _explained():
            self._client.start(container)

    def state(self, container: str) -> Json:
        with _explained():
            return dict(self._client.inspect_container(container)["State"])

    def kill(self, container: str) -> None:
        """Kill every process of the container; none running is no error."""
        with _explained(), _suppressed(404, 409):
            self._client.kill(container)

    def usage(self, container: str) -> Json:
        """What a running container has used so far; empty if the daemon does not say."""
        with contextlib.suppress(Exception):
            return dict(self._client.stats(container, stream=False, one_shot=True))
        return {}

    def copy_out(self, image: str, path: str, target: BinaryIO) -> None:
        """Write ``path`` of an image to ``target`` as a tar file; nothing if it is not there."""
        container = self.create({"Image": image, "Entrypoint": ["none"], "Cmd": []}, None)
        try:
            with _explained(), _suppressed(404):
                stream, _ = self._client.get_archive(container, path, chunk_size=_BLOCK)
                for block in stream:
                    target.write(block)
        finally:
            self.remove(container)

    def remove(self, container: str) -> None:
        """Remove the container, its processes and its volumes; gone already is no error."""
        with _explained(), _suppressed(404, 409):
            self._client.remove_container(container, force=True, v=True)

    def labelled(self, label: str) -> Sequence[Json]:
        """Every container, in whatever state, that carries ``label``."""
        with _explained():
            return [*self._client.containers(all=True, filters={"label": label})]


def _check(line: Json) -> str:
    """One line of a stream; an EngineError if it reports a failure."""
    if "error" in line:
        raise _error(str(line["error"]))
    return str(line.get("stream", ""))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        # The SDK lets errors of requests and of the socket through beside its own.
        if type(error).__module__.split(".")[0] not in ("docker", "requests", "urllib3") and not (
            isinstance(error, OSError)
        ):
            raise
        explanation = getattr(error, "explanation", None)
        raise _error(str(explanation or error), answered=_status(error) is not None) from error


@contextlib.contextmanager
def _suppressed(*codes: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if _status(error) not in codes:
            raise


def _status(error: Exception) -> int | None:
    """The HTTP status with which the daemon refused; None if it did not answer."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _error(said: str, answered: bool = True) -> EngineError:
    said = printable(" ".join(said.split()), 300)
    if "no space left" in said.lower():
        return EngineError(
            f"Docker has no space left: {said}",
            "free some where Docker keeps its images (docker system df), then run again",
        )
    if not answered and "ermission denied" in said:
        return EngineError(
            "Docker's socket may not be used by this user",
            "join the group `docker`, or use --engine sandbox",
        )
    if not answered:
        return EngineError(
            f"Docker does not answer: {said}",
            "start the daemon (or set DOCKER_HOST), then run again; or use --engine sandbox",
        )
    return EngineError(f"Docker refused: {said}", "`harness doctor` says what works here")
