"""AWS Lambda functions in the real Lambda userland, without Docker.

    function = undocked.Function(image="python3.12", code="src", handler="app.handler")
    function.run({"name": "you"}).payload            # a fresh environment, once
    with function.serve() as server:                 # warm
        server.invoke({"name": "you"}).payload
        server.client().invoke(FunctionName="any")   # boto3
"""

from ._function import Function, Run
from ._program import UndockedError, program
from ._server import FunctionError, RefusedError, Response, Server

__all__ = ["Function", "FunctionError", "RefusedError", "Response", "Run", "Server", "UndockedError", "program"]
