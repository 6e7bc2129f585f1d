// Calls the functions of tests/contract/invoke_api/fleet.rs by the SDK for JavaScript, and prints what came of it as one JSON object.
const { LambdaClient, InvokeCommand, InvokeWithResponseStreamCommand } = require('@aws-sdk/client-lambda');

const client = new LambdaClient({ endpoint: process.argv[2], maxAttempts: 1 });
const text = (bytes) => (bytes ? Buffer.from(bytes).toString() : null);
const log = (encoded) => (encoded ? Buffer.from(encoded, 'base64').toString() : null);
const context = Buffer.from('{"custom":{"a":1}}').toString('base64');

async function invoke(FunctionName, more = {}) {
  const answer = await client.send(new InvokeCommand({ FunctionName, ...more }));
  return {
    status: answer.StatusCode,
    payload: text(answer.Payload),
    error: answer.FunctionError ?? null,
    version: answer.ExecutedVersion ?? null,
    log: log(answer.LogResult),
  };
}

async function refused(name, more) {
  try {
    return { answered: await invoke(name, more) };
  } catch (error) {
    return { name: error.name, message: error.message, reason: error.Reason ?? null };
  }
}

async function stream(FunctionName, more = {}) {
  const parts = [];
  let complete = null;
  const answer = await client.send(new InvokeWithResponseStreamCommand({ FunctionName, ...more }));
  for await (const event of answer.EventStream) {
    if (event.PayloadChunk) {
      parts.push(text(event.PayloadChunk.Payload));
      if (parts.length === 1 && FunctionName !== 'echo') await invoke('open');
    } else {
      const told = event.InvokeComplete;
      complete = { error: told.ErrorCode ?? null, details: told.ErrorDetails ?? null, log: log(told.LogResult) };
    }
  }
  return { parts, complete };
}

const json = (length) => Buffer.from(`"${'x'.repeat(length - 2)}"`);

async function main() {
  const arn = 'arn:aws:lambda:us-east-1:123456789012:function:describe';
  return {
    echo: await invoke('echo', { Payload: Buffer.from('{"a":1}') }),
    failed: await invoke('fail', { LogType: 'Tail' }),
    no_payload: await invoke('echo'),
    event: await invoke('echo', { InvocationType: 'Event' }),
    dry: await invoke('echo', { InvocationType: 'DryRun' }),
    described: await invoke(arn, { Qualifier: 'live', ClientContext: context }),
    refusals: {
      missing: await refused('missing'),
      elsewhere: await refused('elsewhere'),
      busy: await refused('busy'),
      broken: await refused('broken'),
      not_json: await refused('echo', { Payload: Buffer.from('notjson') }),
      conflict: await refused('echo:1', { Qualifier: '2' }),
      too_large: await refused('echo', { Payload: json(6291457) }),
      event_too_large: await refused('echo', { Payload: json(1048577), InvocationType: 'Event' }),
      bad_name: await refused('e o'),
      bad_context: await refused('echo', { ClientContext: '?' }),
    },
    stream: await stream('stream', { LogType: 'Tail' }),
    late_failure: await stream('late-failure'),
    early_failure: await stream('early-failure'),
    buffered: await stream('echo', { Payload: Buffer.from('[1,2]') }),
  };
}

main().then((found) => console.log(JSON.stringify(found)));
