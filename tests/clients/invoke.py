"""Calls the functions of tests/contract/invoke_api/fleet.rs by boto3, and prints what came of it as one JSON object."""

import base64
import json
import sys

import boto3
import botocore
from botocore.config import Config

config = Config(retries={"total_max_attempts": 1}, read_timeout=60, parameter_validation=False)
client = boto3.client("lambda", endpoint_url=sys.argv[1], config=config)
CONTEXT = base64.b64encode(b'{"custom":{"a":1}}').decode()


def invoke(name, **more):
    answer = client.invoke(FunctionName=name, **more)
    log = answer.get("LogResult")
    return {
        "status": answer["StatusCode"],
        "payload": answer["Payload"].read().decode(),
        "error": answer.get("FunctionError"),
        "version": answer.get("ExecutedVersion"),
        "log": log and base64.b64decode(log).decode(),
    }


def refused(name, **more):
    try:
        return {"answered": invoke(name, **more)}
    except botocore.exceptions.ClientError as error:
        told = error.response
        return {
            "class": type(error).__name__,
            "name": told["Error"]["Code"],
            "message": told["Error"]["Message"],
            "reason": told.get("Reason"),
        }


def stream(name, **more):
    parts, complete = [], None
    for event in client.invoke_with_response_stream(FunctionName=name, **more)["EventStream"]:
        if "PayloadChunk" in event:
            parts.append(event["PayloadChunk"]["Payload"].decode())
            if len(parts) == 1 and name != "echo":
                client.invoke(FunctionName="open")
        else:
            told = event["InvokeComplete"]
            log = told.get("LogResult")
            complete = {
                "error": told.get("ErrorCode"),
                "details": told.get("ErrorDetails"),
                "log": log and base64.b64decode(log).decode(),
            }
    return {"parts": parts, "complete": complete}


def text(length):
    return b'"' + b"x" * (length - 2) + b'"'


arn = "arn:aws:lambda:us-east-1:123456789012:function:describe"
print(
    json.dumps(
        {
            "echo": invoke("echo", Payload=b'{"a":1}'),
            "failed": invoke("fail", LogType="Tail"),
            "no_payload": invoke("echo"),
            "event": invoke("echo", InvocationType="Event"),
            "dry": invoke("echo", InvocationType="DryRun"),
            "described": invoke(arn, Qualifier="live", ClientContext=CONTEXT),
            "invoke_async": client.invoke_async(FunctionName="echo", InvokeArgs=b"{}")["Status"],
            "refusals": {
                "missing": refused("missing"),
                "elsewhere": refused("elsewhere"),
                "busy": refused("busy"),
                "broken": refused("broken"),
                "not_json": refused("echo", Payload=b"notjson"),
                "conflict": refused("echo:1", Qualifier="2"),
                "too_large": refused("echo", Payload=text(6291457)),
                "event_too_large": refused("echo", Payload=text(1048577), InvocationType="Event"),
                "bad_name": refused("e o"),
                "bad_context": refused("echo", ClientContext="?"),
            },
            "stream": stream("stream", LogType="Tail"),
            "late_failure": stream("late-failure"),
            "early_failure": stream("early-failure"),
            "buffered": stream("echo", Payload=b"[1,2]"),
        }
    )
)
