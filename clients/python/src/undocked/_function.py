"""A function: what runs, in which image, with which code."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ._program import UndockedError, program
from ._server import FunctionError, Server

_RAN = (0, 1)


@dataclass(frozen=True)
class Run:
    """What came of one run in a fresh environment."""

    #: What the function answered, or its error.
    payload: Any
    #: ``"Unhandled"`` if the function failed, else None.
    function_error: str | None
    #: The last 4096 bytes of the log.
    log_tail: str
    #: Everything that was logged.
    log: str
    #: ``initMs``, ``durationMs``, ``billedMs``, ``memorySizeMb``, ``maxMemoryUsedMb``.
    report: Mapping[str, Any]

    def raise_for_error(self) -> "Run":
        """Raises a FunctionError if the function failed."""
        if self.function_error is not None:
            raise FunctionError(self.payload, self.log_tail)
        return self


@dataclass(frozen=True)
class Function:
    """A function. Nothing runs until `run` or `serve` is called."""

    #: A runtime such as ``python3.12``, a reference, or ``oci:DIR:NAME``.
    image: str
    #: The handler; the image's own when not given.
    handler: str | None = None
    #: The folder shown as /var/task, for reading.
    code: str | os.PathLike[str] | None = None
    #: Folders shown as /opt, merged in order.
    layers: Sequence[str | os.PathLike[str]] = ()
    #: The function's variables.
    env: Mapping[str, str] = field(default_factory=dict)
    #: Its memory in megabytes.
    memory: int | None = None
    #: Its timeout in seconds.
    timeout: float | None = None
    #: More options of `undocked run` and `undocked serve`.
    options: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """The options of `undocked`, up to the image and the handler."""
        arguments = ["--color", "never"]
        if self.code is not None:
            arguments += ["--volume", f"{os.path.abspath(self.code)}:/var/task:ro"]
        for layer in self.layers:
            arguments += ["--layer", os.fspath(layer)]
        for name, value in self.env.items():
            arguments += ["--env", f"{name}={value}"]
        if self.memory is not None:
            arguments += ["--memory", f"{self.memory}m"]
        if self.timeout is not None:
            arguments += ["--timeout", str(self.timeout)]
        arguments += [*self.options, self.image]
        return arguments if self.handler is None else [*arguments, self.handler]

    def run(self, event: Any = None) -> Run:
        """Runs the function once in a fresh environment. A function that failed is a Run, too; UndockedError says that there was none."""
        event = {} if event is None else event
        # Events may be larger than arguments may be.
        arguments = [program(), "run", "--json", "--env", "DOCKER_LAMBDA_USE_STDIN=1", *self.arguments()]
        done = subprocess.run(arguments, input=json.dumps(event).encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        log = done.stderr.decode(errors="replace")
        if done.returncode not in _RAN or not done.stdout:
            raise UndockedError(f"undocked ended with exit code {done.returncode}:\n{log}", done.returncode)
        result = json.loads(done.stdout)
        return Run(result["payload"], result["functionError"], result["logTail"], log, result["report"] or {})

    def serve(self, concurrency: int | None = None, watch: bool = False) -> Server:
        """Starts the function so that it stays warm. The server ends with this process, however that ends."""
        options = [] if concurrency is None else ["--concurrency", str(concurrency)]
        return Server(program(), [*options, *(["--watch"] if watch else []), *self.arguments()])
