"""Needs UNDOCKED_BIN and TEST_IMAGE (a Python image)."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
import undocked

IMAGE = os.environ["TEST_IMAGE"]
APP = """
import os
def handler(event, context):
    print("greeting", event.get("name"))
    if not event.get("name"):
        raise ValueError("nobody to greet")
    return {"greeting": "hello " + event["name"], "stage": os.environ.get("STAGE"), "memory": context.memory_limit_in_mb}
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("src")
    folder.chmod(0o755)
    (folder / "app.py").write_text(APP)
    return folder


def test_a_fresh_environment(code):
    function = undocked.Function(image=IMAGE, code=code, handler="app.handler", env={"STAGE": "test"}, memory=256, timeout=5)
    run = function.run({"name": "you"})
    assert run.payload == {"greeting": "hello you", "stage": "test", "memory": "256"}
    assert run.function_error is None
    assert run.report["memorySizeMb"] == 256
    assert "greeting you" in run.log and "greeting you" in run.log_tail
    # Larger than an argument may be.
    assert len(function.run({"name": "x" * 500_000}).payload["greeting"]) == 500_006


def test_errors(code):
    function = undocked.Function(image=IMAGE, code=code, handler="app.handler")
    run = function.run({})
    assert run.function_error == "Unhandled"
    with pytest.raises(undocked.FunctionError, match="ValueError: nobody to greet"):
        run.raise_for_error()
    with pytest.raises(undocked.UndockedError, match="nowhere") as raised:
        undocked.Function(image="oci:/nowhere").run()
    assert raised.value.exit_code == 125
    with pytest.raises(undocked.UndockedError, match="nowhere"):
        undocked.Function(image="oci:/nowhere").serve()


def test_a_warm_server(code):
    with undocked.Function(image=IMAGE, code=code, handler="app.handler").serve(concurrency=2) as server:
        assert server.invoke({"name": "a"}).payload["greeting"] == "hello a"
        response = server.invoke({}, client_context={"custom": {}})
        assert (response.status_code, response.function_error) == (200, "Unhandled")
        assert "REPORT RequestId: " in response.log_tail
        assert server.invoke({}, invocation_type="DryRun").status_code == 204
        with pytest.raises(undocked.RefusedError) as raised:
            server.invoke({}, name="no name!")
        assert (raised.value.status_code, raised.value.code) == (400, "ValidationException")
        answer = server.client().invoke(FunctionName="any", Payload=b'{"name": "boto3"}')
        assert json.load(answer["Payload"])["greeting"] == "hello boto3"
        assert "greeting boto3" in server.log()
    with pytest.raises(undocked.UndockedError):
        server.invoke({})


def test_a_server_ends_with_its_owner(code):
    script = (
        "import sys, signal, undocked\n"
        f"server = undocked.Function(image={IMAGE!r}, code={str(code)!r}, handler='app.handler').serve()\n"
        "print(server.endpoint, flush=True)\n"
        "signal.pause()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    endpoint = owner.stdout.readline().strip()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/2018-06-01/ping").close()
        except OSError:
            break


TESTS = """
import json
import pytest
import undocked

def make(lambda_function, **options):
    return lambda_function(image={image!r}, code="src", handler="app.handler", **options)

def test_warm(lambda_function):
    function = make(lambda_function)
    assert function({{"name": "you"}})["greeting"] == "hello you"
    assert "greeting you" in function.log

def test_boto3(lambda_function):
    function = make(lambda_function)
    assert "greeting you" not in function.log
    answer = function.client.invoke(FunctionName="any", Payload=b'{{"name": "b"}}')
    assert json.load(answer["Payload"])["greeting"] == "hello b"

def test_fresh(lambda_function):
    function = make(lambda_function, fresh=True)
    with pytest.raises(undocked.FunctionError):
        function({{}})
    with pytest.raises(TypeError):
        function.client

def test_wrong(lambda_function):
    assert make(lambda_function)({{"name": "z"}}) == "something else"
"""


def test_the_plugin(pytester):
    pytester.mkdir("src").joinpath("app.py").write_text(APP)
    pytester.path.chmod(0o755)
    pytester.makepyfile(TESTS.format(image=IMAGE))
    # An installed package's plugin is there without a word.
    installed = any(entry.value == "undocked.pytest_plugin" for entry in importlib.metadata.entry_points(group="pytest11"))
    result = pytester.runpytest_subprocess(*([] if installed else ["-p", "undocked.pytest_plugin"]))
    result.assert_outcomes(passed=3, failed=1)
    # What the function logged during the test that failed, and nothing of the others.
    result.stdout.fnmatch_lines(["*Captured lambda log*", "greeting z"])
    result.stdout.no_fnmatch_line("greeting you")
