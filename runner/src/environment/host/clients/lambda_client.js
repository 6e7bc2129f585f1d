// Runtime client for Node functions in the `host` userland: asks Lambda's Runtime API for events, calls the handler, answers.
// Node 12 and later, no packages. Errors, console lines and the context object are those of AWS's own client.
'use strict';

const fs = require('fs');
const http = require('http');
const path = require('path');
const url = require('url');
const util = require('util');

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

// Kept from the customer's code, which may patch them.
const { exit, stdout } = process;
const { setImmediate: soon } = global;

function call(method, apiPath, headers, body) {
  return new Promise((resolve, reject) => {
    const options = { host, port, agent, method, path: `/2018-06-01/runtime${apiPath}`, headers };
    const request = http.request(options, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

function post(apiPath, body, headers) {
  const bytes = Buffer.from(body);
  return call('POST', apiPath, { 'Content-Type': 'application/json', 'Content-Length': bytes.length, ...headers }, bytes);
}

/** The Runtime API is gone, or breaks its own rules: nothing is left to do. */
function giveUp(error) {
  stdout.write(`${error.stack || error}\n`);
  exit(1);
}

// ---- errors

class Fault extends Error {
  constructor(type, reason) {
    super(String(reason));
    this.name = type;
    if (!isError(reason)) return;
    // A syntax error's place is in the lines above its message.
    const isFrame = (line) => (reason instanceof SyntaxError ? line !== '' : line.startsWith('    at '));
    this.stack = [`${type}: ${this.message}`, ...String(reason.stack).split('\n').filter(isFrame)].join('\n');
  }
}

function isError(value) {
  return value instanceof Error || util.types.isNativeError(value);
}

/** The error as the invoker sees it. */
function describe(error) {
  if (!isError(error)) {
    const text = error === undefined ? 'undefined' : error === null ? 'null' : String(error);
    return { errorType: typeof error, errorMessage: text, trace: [] };
  }
  return { errorType: error.name, errorMessage: error.message, trace: String(error.stack).split('\n') };
}

/** The error as the log sees it: with everything its own class added. */
function format(error) {
  if (!isError(error)) return ` ${JSON.stringify(describe(error))}`;
  const seen = { errorType: error.name, errorMessage: error.message };
  Object.keys(error).forEach((key) => { if (key !== 'name' && key !== 'stack' && key !== 'message') seen[key] = error[key]; });
  seen.stack = String(error.stack).split('\n');
  try {
    return `\t${JSON.stringify(seen)}`;
  } catch (unprintable) {
    return `\t${JSON.stringify(describe(error))}`;
  }
}

function postError(apiPath, error) {
  const body = describe(error);
  const type = String(body.errorType).replace(/[^\x20-\x7e]/g, '?');
  return post(apiPath, JSON.stringify(body), { 'Lambda-Runtime-Function-Error-Type': type });
}

// ---- console: each line carries time, request id and level

let requestId;

function patchConsole() {
  const levels = { log: 'INFO', info: 'INFO', debug: 'DEBUG', warn: 'WARN', error: 'ERROR', trace: 'TRACE' };
  Object.keys(levels).forEach((name) => {
    console[name] = (...values) => {
      let text = util.format(...values);
      if (name === 'trace') text = `Trace: ${text}\n${new Error().stack.split('\n').slice(2).join('\n')}`;
      stdout.write(`${new Date().toISOString()}\t${requestId}\t${levels[name]}\t${text.replace(/\n/g, '\r')}\n`);
    };
  });
}

// ---- the handler

async function loadModule(root, folder, name) {
  const base = path.resolve(root, folder, name);
  const packaged = nearestPackageIsModule(path.dirname(base));
  if (fs.existsSync(`${base}.js`)) return packaged ? import(url.pathToFileURL(`${base}.js`).href) : require(`${base}.js`);
  if (fs.existsSync(`${base}.mjs`)) return import(url.pathToFileURL(`${base}.mjs`).href);
  if (fs.existsSync(`${base}.cjs`)) return require(`${base}.cjs`);
  return require(require.resolve(name, { paths: [root, path.join(root, folder)] }));
}

/** Node decides by the nearest package.json whether a `.js` file is an ES module. */
function nearestPackageIsModule(folder) {
  for (let at = folder; ; at = path.dirname(at)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(at, 'package.json'), 'utf8')).type === 'module';
    } catch (error) {
      if (path.dirname(at) === at) return false;
    }
  }
}

/** The function that `module.name` or `folder/module.name` means. */
async function load(root, handler) {
  const invalid = (reason) => { throw new Fault('Runtime.MalformedHandlerName', reason); };
  if (handler.includes('..')) invalid(`'${handler}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  const base = path.basename(handler);
  const folder = handler.slice(0, handler.length - base.length);
  const parts = /^([^.]*)\.(.*)$/.exec(base);
  if (!parts) invalid('Bad handler');
  let module;
  try {
    module = await loadModule(root, folder, parts[1]);
  } catch (error) {
    if (error instanceof SyntaxError) throw new Fault('Runtime.UserCodeSyntaxError', error);
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) throw new Fault('Runtime.ImportModuleError', error);
    throw error;
  }
  const find = (from) => parts[2].split('.').reduce((nested, key) => nested && nested[key], from);
  const found = find(module) || find(module.default);
  if (!found) throw new Fault('Runtime.HandlerNotFound', `${handler} is undefined or not exported`);
  if (typeof found !== 'function') throw new Fault('Runtime.HandlerNotFound', `${handler} is not a function`);
  return found;
}

// ---- one event

function parseHeader(headers, name) {
  return headers[name] ? JSON.parse(headers[name]) : undefined;
}

function makeContext(headers) {
  const deadline = parseInt(headers['lambda-runtime-deadline-ms'], 10);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parseHeader(headers, 'lambda-runtime-client-context'),
    identity: parseHeader(headers, 'lambda-runtime-cognito-identity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

/** What to do when the event loop has run dry; the process ends if nothing is. */
let whenIdle;
process.on('beforeExit', () => { if (whenIdle) whenIdle(); });

/** Calls the handler; resolves once, with how the invocation ended. */
function callHandler(handler, event, context) {
  return new Promise((resolve) => {
    const succeed = (value) => resolve({ value });
    const fail = (error) => resolve({ error });
    const settle = (error, value) => (error === undefined || error === null ? succeed(value) : fail(error));
    const callback = (error, value) => {
      if (!context.callbackWaitsForEmptyEventLoop) settle(error, value);
      else whenIdle = () => soon(() => settle(error, value));
    };
    context.done = (error, value) => settle(error, value);
    context.succeed = succeed;
    context.fail = (error) => fail(error === undefined || error === null ? 'handled' : error);
    // A handler that neither answers nor keeps anything running has answered null.
    whenIdle = () => succeed(null);
    try {
      const result = handler(event, context, callback);
      if (result && typeof result.then === 'function') result.then(succeed, fail);
    } catch (error) {
      fail(error);
    }
  });
}

function serialize(value) {
  try {
    const text = JSON.stringify(value === undefined ? null : value);
    return text === undefined ? 'null' : text;
  } catch (error) {
    throw new Error('Unable to stringify response body');
  }
}

async function invoke(handler, headers, body) {
  const apiPath = `/invocation/${requestId}`;
  let outcome;
  try {
    outcome = await callHandler(handler, JSON.parse(body.toString()), makeContext(headers));
    if (!('error' in outcome)) outcome.body = serialize(outcome.value);
  } catch (error) {
    outcome = { error };
  }
  whenIdle = undefined;
  if ('error' in outcome) {
    console.error('Invoke Error', format(outcome.error));
    await postError(`${apiPath}/error`, outcome.error);
  } else {
    await post(`${apiPath}/response`, outcome.body);
  }
}

async function main() {
  patchConsole();
  const version = process.versions.node.split('.')[0];
  process.env.AWS_EXECUTION_ENV = `AWS_Lambda_nodejs${version}.x`;
  process.env.NODE_PATH = process.env.NODE_PATH
    || `/opt/nodejs/node${version}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task`;
  // Node reads the variable once, when it starts; this reads it again.
  require('module').Module._initPaths();
  let where = '/init/error';
  let dying = false;
  // An error nobody caught is answered first; then the process cannot be trusted any more.
  const die = (error, code) => {
    if (dying) return;
    dying = true;
    whenIdle = undefined;
    // One connection at a time: what hangs on it must not hold up the error.
    agent.maxSockets = 2;
    postError(where, error).then(() => exit(code), () => exit(code));
  };
  process.on('uncaughtException', (error) => {
    console.error('Uncaught Exception', format(error));
    die(error, 129);
  });
  process.on('unhandledRejection', (reason) => {
    const error = new Fault('Runtime.UnhandledPromiseRejection', reason);
    error.reason = isError(reason) ? describe(reason) : reason;
    console.error('Unhandled Promise Rejection', format(error));
    die(error, 128);
  });
  let handler;
  try {
    handler = await load(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
  } catch (error) {
    console.error('Uncaught Exception', format(error));
    die(error, 129);
    return;
  }
  // Rejections that loading left behind are told at the end of this turn.
  await new Promise(soon);
  for (;;) {
    if (dying) return;
    const next = await call('GET', '/invocation/next').catch(giveUp);
    if (next.status !== 200) giveUp(new Error(`the Runtime API answered ${next.status} to \`next\``));
    requestId = next.headers['lambda-runtime-aws-request-id'];
    where = `/invocation/${requestId}/error`;
    if (next.headers['lambda-runtime-trace-id']) process.env._X_AMZN_TRACE_ID = next.headers['lambda-runtime-trace-id'];
    else delete process.env._X_AMZN_TRACE_ID;
    await invoke(handler, next.headers, next.body);
  }
}

main().catch(giveUp);
