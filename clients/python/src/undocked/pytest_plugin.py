"""pytest plugin: the fixture `lambda_function`, which makes functions for tests.

    def test_greets(lambda_function):
        function = lambda_function(image="python3.12", code="src", handler="app.handler")
        assert function({"name": "you"}) == {"greeting": "hello you"}

A function is warm unless ``fresh=True``: it runs on one server for the whole session, which tests that ask for the same function share. What it logs while a
test runs is shown with that test's report.
"""

from __future__ import annotations

import os
from typing import Any, Iterator

import pytest

from ._function import Function, Run
from ._server import FunctionError, Response, Server


class LambdaFunction:
    """A function as a test sees it."""

    def __init__(self, function: Function, server: Server | None, log: "_Log"):
        #: What it is made of.
        self.function = function
        self._server = server
        self._log = log

    def __call__(self, event: Any = None) -> Any:
        """What the function answers; raises FunctionError if it fails."""
        return self.invoke(event).raise_for_error().payload

    def invoke(self, event: Any = None, **options: Any) -> Response | Run:
        """The whole answer, also of a function that failed. ``options`` are those of `Server.invoke`, for warm functions."""
        if self._server is not None:
            return self._server.invoke(event, **options)
        if options:
            raise TypeError(f"a fresh function takes no {', '.join(map(repr, options))}")
        run = self.function.run(event)
        self._log.add(run.log)
        return run

    @property
    def endpoint(self) -> str:
        """Where AWS's SDKs reach it."""
        if self._server is None:
            raise TypeError("a fresh function has no endpoint: leave `fresh` out")
        return self._server.endpoint

    @property
    def client(self) -> Any:
        """A boto3 client, ready to use; any FunctionName will do."""
        if self._server is None:
            raise TypeError("a fresh function has no boto3 client: leave `fresh` out")
        return self._server.client()

    @property
    def log(self) -> str:
        """What it logged since the test began."""
        return self._log.text()


class _Log:
    """What functions log during one test."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._servers: list[tuple[Server, int]] = []

    def follow(self, server: Server) -> None:
        if all(server is not followed for followed, _ in self._servers):
            self._servers.append((server, server.log_lines()))

    def add(self, text: str) -> None:
        self._texts.append(text)

    def text(self) -> str:
        return "".join(self._texts) + "".join(server.log(since) for server, since in self._servers)


class _Servers:
    """The session's warm functions."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}

    def of(self, function: Function, concurrency: int | None) -> Server:
        key = repr((function.arguments(), concurrency))
        if key not in self._servers:
            self._servers[key] = function.serve(concurrency=concurrency)
        return self._servers[key]

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


@pytest.fixture(scope="session")
def _undocked_servers() -> Iterator[_Servers]:
    servers = _Servers()
    yield servers
    servers.close()


@pytest.fixture
def lambda_function(request: pytest.FixtureRequest, _undocked_servers: _Servers) -> Iterator[Any]:
    """Makes functions: ``lambda_function(image=…, code=…, handler=…, fresh=False, concurrency=None, …)``, with the fields of `undocked.Function`."""
    log = _Log()

    def make(image: str, handler: str | None = None, *, fresh: bool = False, concurrency: int | None = None, **fields: Any) -> LambdaFunction:
        code = fields.pop("code", None)
        if code is not None:
            # As the test's own file names it.
            code = os.path.join(request.path.parent, code)
        function = Function(image=image, handler=handler, code=code, **fields)
        if fresh:
            return LambdaFunction(function, None, log)
        server = _undocked_servers.of(function, concurrency)
        log.follow(server)
        return LambdaFunction(function, server, log)

    request.node.stash[_LOG] = log
    yield make


_LOG = pytest.StashKey["_Log"]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Shows what functions logged with the test that called them."""
    outcome = yield
    log = item.stash.get(_LOG, None)
    if call.when == "call" and log is not None:
        text = log.text()
        if text:
            outcome.get_result().sections.append(("Captured lambda log", text))


__all__ = ["FunctionError", "LambdaFunction", "lambda_function"]
