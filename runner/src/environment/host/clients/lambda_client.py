"""Runtime client for Python functions in the `host` userland: asks Lambda's Runtime API for events, calls the handler, answers.

Standard library only, Python 3.6 and later. Errors, log lines and the context object are those of AWS's own client.
"""

import decimal
import http.client
import importlib
import io
import json
import logging
import os
import sys
import time
import traceback

API = "/2018-06-01/runtime"


class Fault(Exception):
    """An error whose type is the runtime's, not a Python class."""

    def __init__(self, error_type, message, stack_trace=None):
        Exception.__init__(self, message)
        self.error_type = error_type
        self.stack_trace = stack_trace or []


class RuntimeApi:
    """One kept-alive connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address)

    def call(self, method, path, body=None, headers=None):
        self.connection.request(method, API + path, body, headers or {})
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def next(self):
        status, headers, body = self.call("GET", "/invocation/next")
        if status != 200:
            sys.exit("the Runtime API answered %d to `next`" % status)
        return headers, body

    def respond(self, request_id, body, content_type):
        status = self.call("POST", "/invocation/%s/response" % request_id, body, {"Content-Type": content_type})[0]
        if status not in (202, 413):
            sys.exit("the Runtime API answered %d to a response" % status)

    def fail(self, path, error):
        headers = {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": header(error["errorType"])}
        self.call("POST", path, to_json(error).encode(), headers)


class Fields:
    """An object of the client context: its attributes, some of them None when not given."""

    def __init__(self, names, values):
        for name in names:
            setattr(self, name, values.get(name))


class LambdaContext:
    """What the handler gets as its second argument."""

    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers.get("Lambda-Runtime-Invoked-Function-Arn")
        self.tenant_id = headers.get("Lambda-Runtime-Aws-Tenant-Id")
        self._epoch_deadline_time_in_ms = int(headers["Lambda-Runtime-Deadline-Ms"])
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        identity = from_header(headers, "Lambda-Runtime-Cognito-Identity", "Cognito Identity") or {}
        self.identity = Fields((), {})
        self.identity.cognito_identity_id = identity.get("cognitoIdentityId")
        self.identity.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")
        self.client_context = self._client_context(from_header(headers, "Lambda-Runtime-Client-Context", "Client Context"))

    @staticmethod
    def _client_context(given):
        if not given:
            return None
        context = Fields(("custom", "env"), given)
        names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
        context.client = Fields(names, given["client"]) if given.get("client") else None
        return context

    def get_remaining_time_in_millis(self):
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))


class Encoder(json.JSONEncoder):
    def default(self, value):
        if isinstance(value, decimal.Decimal):
            return float(value) if value.is_nan() or value % 1 else int(value)
        return json.JSONEncoder.default(self, value)


def to_json(value):
    # From Python 3.12 on AWS's client leaves other alphabets readable.
    return json.dumps(value, cls=Encoder, ensure_ascii=sys.version_info < (3, 12))


def header(text):
    return text.encode("ascii", "replace").decode()


def from_header(headers, name, what):
    text = headers.get(name)
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (what, error))


def load(handler):
    """The function that `module.name` or `folder/module.name` means."""
    try:
        module_name, name = handler.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (handler, error))
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, error))
    except SyntaxError as error:
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, error), trace)
    try:
        return getattr(module, name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (name, module_name))


def describe(error, request_id=""):
    """The error as the invoker sees it. Frames of this file are left out."""
    if isinstance(error, Fault):
        error_type, trace = error.error_type, error.stack_trace
    else:
        # Bare tuples: the marks under the code that newer Pythons draw are not part of it.
        frames = [(frame.filename, frame.lineno, frame.name, frame.line) for frame in traceback.extract_tb(error.__traceback__)]
        while frames and frames[0][0] == __file__:
            del frames[0]
        error_type, trace = type(error).__name__, traceback.format_list(frames)
    return {"errorMessage": str(error), "errorType": error_type, "requestId": request_id, "stackTrace": trace}


def log_error(error):
    """One log record: its lines are parted by carriage returns and indented by no-break spaces, as AWS's client writes them."""
    lines = ["[ERROR] %s: %s" % (error["errorType"], error["errorMessage"]) if error["errorMessage"] else "[ERROR] " + error["errorType"]]
    lines.append("Traceback (most recent call last):")
    for line in "".join(part if part.endswith("\n") else part + "\n" for part in error["stackTrace"]).splitlines():
        text = line.lstrip(" ")
        lines.append("\u00a0" * (len(line) - len(text)) + text)
    sys.stdout.write("\r".join(lines) + "\n")


def unbuffered(stream):
    """Every write leaves at once, as UTF-8, whatever the stream is connected to and the locale says."""
    return io.TextIOWrapper(stream.buffer, encoding="utf-8", errors="backslashreplace", write_through=True)


class LogHandler(logging.Handler):
    """The root logger's handler: lines carry the request id."""

    request_id = ""

    def __init__(self):
        logging.Handler.__init__(self)
        formatter = logging.Formatter("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record):
        record.aws_request_id = self.request_id
        sys.stdout.write(self.format(record))


def invoke(api, handler, headers, body):
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        context = LambdaContext(headers)
        try:
            event = json.loads(body.decode()) if headers.get("Content-Type", "application/json") == "application/json" else body
        except ValueError as error:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error)
        result, content_type = handler(event, context), "application/unknown"
        if not isinstance(result, bytes):
            try:
                result, content_type = to_json(result).encode(), "application/json"
            except Exception as error:
                raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error)
    except Exception as error:
        error = describe(error, request_id)
        log_error(error)
        api.fail("/invocation/%s/error" % request_id, error)
    else:
        api.respond(request_id, result, content_type)


def main():
    sys.stdout, sys.stderr = unbuffered(sys.stdout), unbuffered(sys.stderr)
    os.environ["AWS_EXECUTION_ENV"] = "AWS_Lambda_python%d.%d" % sys.version_info[:2]
    # The function's own folder, then the layers' packages; this file's folder is no place for modules of its name.
    sys.path[0:1] = [os.environ["LAMBDA_TASK_ROOT"], "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2], "/opt/python"]
    logger = LogHandler()
    logging.getLogger().addHandler(logger)
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        handler = load(os.environ["_HANDLER"])
    except Exception as error:
        error = describe(error)
        log_error(error)
        api.fail("/init/error", error)
        sys.exit(1)
    while True:
        headers, body = api.next()
        logger.request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        if headers.get("Lambda-Runtime-Trace-Id"):
            os.environ["_X_AMZN_TRACE_ID"] = headers["Lambda-Runtime-Trace-Id"]
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        invoke(api, handler, headers, body)


if __name__ == "__main__":
    main()
