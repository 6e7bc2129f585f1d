import os
import sys


def lambda_handler(event, context):
    print("handling", context.aws_request_id)
    return {
        "message": "Hello from Python %d.%d" % sys.version_info[:2],
        "event": event,
        "function": context.function_name,
        "cwd": os.getcwd(),
        "remainingMs": context.get_remaining_time_in_millis(),
    }
