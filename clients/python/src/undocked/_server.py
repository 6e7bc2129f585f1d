"""A function that stays warm: `undocked serve` in the background, asked by its Invoke API."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import select
import subprocess
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ._program import UndockedError

_LISTENING = re.compile(rb"undocked: the Invoke API is on http://([\d.]+):(\d+)\s*$")
#: Seconds that a server has to end.
_END = 10.0
#: Seconds that the log of an invocation has to come.
_LOG_COMES = 2.0
#: Bytes that a pipe holds: what one read leaves in it was written after that.
_PIPE = 65536


class FunctionError(Exception):
    """The function failed, as Lambda tells it: ``payload`` has errorType, errorMessage and its trace."""

    def __init__(self, payload: Any, log_tail: str | None):
        told = payload if isinstance(payload, dict) else {}
        self.payload = payload
        self.error_type = told.get("errorType")
        self.error_message = told.get("errorMessage")
        self.log_tail = log_tail
        super().__init__(f"{self.error_type}: {self.error_message}")


class RefusedError(Exception):
    """The call was refused, as AWS refuses it: ``code`` is AWS's, such as ``TooManyRequestsException``."""

    def __init__(self, status_code: int, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.status_code = status_code
        self.code = code


@dataclass(frozen=True)
class Response:
    """Lambda's answer to one call."""

    #: What the function answered, or its error; None if the call was only accepted.
    payload: Any
    #: ``"Unhandled"`` if the function failed, else None.
    function_error: str | None
    #: The last 4096 bytes of the log of this invocation.
    log_tail: str | None
    #: 200, 202 or 204.
    status_code: int
    #: The invocation's id.
    request_id: str | None

    def raise_for_error(self) -> "Response":
        """Raises a FunctionError if the function failed."""
        if self.function_error is not None:
            raise FunctionError(self.payload, self.log_tail)
        return self


class Server:
    """A running `undocked serve`. Use it as a context manager, or call `close`."""

    def __init__(self, program: str, arguments: list[str]):
        command = [program, "serve", "--listen", "127.0.0.1:0", "--until-stdin-ends", "--queue", *arguments]
        try:
            self._process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as error:
            raise UndockedError(f"cannot start `{program}`: {error.strerror}") from error
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._log: list[bytes] = []
        self._unfinished = b""
        self._changed = threading.Condition()
        self._address: tuple[str, int] | None = None
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="undocked-log", daemon=True)
        self._reader.start()
        with self._changed:
            self._changed.wait_for(lambda: self._address is not None or self._ended)
        if self._address is None:
            code = self._process.wait()
            raise UndockedError(f"undocked ended with exit code {code}:\n{self.log()}", code)

    def _read(self) -> None:
        assert self._process.stdout is not None
        comes = select.poll()
        comes.register(self._process.stdout, select.POLLIN)
        while not self._ended:
            comes.poll()
            with self._changed:
                self._take()

    def _take(self) -> None:
        """Takes what was logged until now, without waiting for more. The caller holds the lock."""
        # What the function writes to its standard output comes on ours, all else on standard error: here they are one log.
        if self._ended:
            return
        assert self._process.stdout is not None
        read = self._process.stdout.read(_PIPE)
        if read is None:
            return
        *lines, self._unfinished = (self._unfinished + read).split(b"\n")
        lines = [line + b"\n" for line in lines]
        if not read:
            self._ended = True
            lines.append(self._unfinished)
        for line in lines:
            found = _LISTENING.match(line) if self._address is None else None
            if found:
                self._address = (found[1].decode(), int(found[2]))
        self._log += lines
        self._changed.notify_all()

    @property
    def endpoint(self) -> str:
        """Where AWS's SDKs reach it: their ``endpoint_url``."""
        assert self._address is not None
        return "http://%s:%d" % self._address

    def log(self, since: int = 0) -> str:
        """What the function and the platform logged until now, from line number ``since`` on. What an invocation logged is there with its answer."""
        with self._changed:
            self._take()
            return b"".join(self._log[since:]).decode(errors="replace")

    def log_lines(self) -> int:
        """How many lines were logged so far."""
        with self._changed:
            self._take()
            return len(self._log)

    def client(self, **settings: Any) -> Any:
        """A boto3 client for this server. ``settings`` go to `boto3.client`."""
        import boto3
        from botocore.config import Config

        config = Config(retries={"max_attempts": 0}, read_timeout=900, parameter_validation=True)
        given = {"region_name": "us-east-1", "aws_access_key_id": "undocked", "aws_secret_access_key": "undocked", "config": config}
        return boto3.client("lambda", endpoint_url=self.endpoint, **{**given, **settings})

    def invoke(self, event: Any = None, *, name: str = "function", invocation_type: str = "RequestResponse", client_context: Any = None) -> Response:
        """Invokes the function. A function that failed is a Response, too; RefusedError says that it was not invoked."""
        headers = {"X-Amz-Invocation-Type": invocation_type}
        if invocation_type == "RequestResponse":
            headers["X-Amz-Log-Type"] = "Tail"
        if client_context is not None:
            headers["X-Amz-Client-Context"] = base64.b64encode(json.dumps(client_context).encode()).decode()
        assert self._address is not None
        connection = http.client.HTTPConnection(*self._address)
        try:
            body = json.dumps({} if event is None else event).encode()
            connection.request("POST", f"/2015-03-31/functions/{quote(name, safe='')}/invocations", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            if self._process.poll() is None:
                raise
            raise UndockedError(f"undocked has ended with exit code {self._process.returncode}:\n{self.log()}", self._process.returncode) from error
        finally:
            connection.close()
        payload = json.loads(text) if text else None
        if answer.status >= 300:
            message = payload.get("Message") or payload.get("message") if isinstance(payload, dict) else text.decode(errors="replace")
            raise RefusedError(answer.status, answer.getheader("X-Amzn-ErrorType") or str(answer.status), message or "")
        log = answer.getheader("X-Amz-Log-Result")
        tail = None if log is None else base64.b64decode(log).decode(errors="replace")
        request_id = answer.getheader("x-amzn-RequestId")
        if answer.status == 200 and request_id is not None:
            self._log_of(request_id.encode())
        return Response(payload, answer.getheader("X-Amz-Function-Error"), tail, answer.status, request_id)

    def _log_of(self, request_id: bytes) -> None:
        """Waits for the end of an invocation's log, which comes another way than its answer."""

        def told() -> bool:
            return self._ended or any(request_id in line and (b"REPORT" in line or b"platform.report" in line) for line in reversed(self._log))

        with self._changed:
            self._changed.wait_for(told, _LOG_COMES)

    def close(self) -> None:
        """Ends the server and everything it runs."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_END)
        with self._changed:
            self._ended = True
            assert self._process.stdout is not None
            self._process.stdout.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
