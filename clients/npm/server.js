'use strict'
// A function that stays warm: `undocked serve` in the background, asked by its Invoke API.

const { spawn } = require('child_process')
const http = require('http')
const { program } = require('./program')

const LISTENING = /^undocked: the Invoke API is on http:\/\/([\d.]+):(\d+)$/
// What is kept of the log for an error's message.
const LOG_TAIL = 16 * 1024

/** The function failed, as Lambda tells it: `payload` has errorType, errorMessage and its trace. */
class FunctionError extends Error {
  constructor(payload, response) {
    super(payload && payload.errorMessage !== undefined ? String(payload.errorMessage) : 'the function failed')
    this.name = (payload && payload.errorType) || 'FunctionError'
    this.payload = payload
    this.requestId = response.requestId
    this.logTail = response.logTail
  }
}

function serveArguments(options) {
  const args = ['serve', '--listen', '127.0.0.1:0', '--until-stdin-ends', '--queue', '--color', 'never']
  const taskDir = options.taskDir === undefined ? process.cwd() : options.taskDir
  if (taskDir) args.push('--volume', `${taskDir}:/var/task:ro`)
  for (const layer of options.layers || []) args.push('--layer', layer)
  for (const [name, value] of Object.entries(options.env || {})) args.push('--env', `${name}=${value}`)
  if (options.memory) args.push('--memory', `${options.memory}m`)
  if (options.timeout) args.push('--timeout', String(options.timeout))
  if (options.concurrency) args.push('--concurrency', String(options.concurrency))
  if (options.watch) args.push('--watch')
  args.push(...(options.args || []), options.image || options.dockerImage)
  if (options.handler) args.push(options.handler)
  return args
}

class Server {
  constructor(child, log) {
    this._child = child
    this._log = log
    this._agent = new http.Agent({ keepAlive: true })
    this._ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })))
  }

  /** Where AWS's SDKs reach it: their `endpoint`. */
  get endpoint() {
    return `http://${this.host}:${this.port}`
  }

  /** Everything the function and the platform logged so far, or the last part of it. */
  get log() {
    return this._log.text
  }

  /** Invokes the function and returns what it answered; throws a FunctionError if it fails. */
  async invoke(event, options) {
    const response = await this.call(event, options)
    if (response.functionError) throw new FunctionError(response.payload, response)
    return response.payload
  }

  /** Invokes the function and returns all of Lambda's answer. Rejects only if there is none. */
  call(event, options = {}) {
    const body = event === undefined ? '' : JSON.stringify(event)
    const headers = { 'Content-Length': Buffer.byteLength(body), 'X-Amz-Log-Type': 'Tail' }
    if (options.type) headers['X-Amz-Invocation-Type'] = options.type
    if (options.type === 'Event') delete headers['X-Amz-Log-Type']
    if (options.clientContext) {
      headers['X-Amz-Client-Context'] = Buffer.from(JSON.stringify(options.clientContext)).toString('base64')
    }
    const name = encodeURIComponent(options.name || 'function')
    const request = { host: this.host, port: this.port, method: 'POST', path: `/2015-03-31/functions/${name}/invocations`, headers, agent: this._agent }
    return new Promise((resolve, reject) => {
      const sent = http.request(request, (response) => {
        const parts = []
        response.on('data', (part) => parts.push(part))
        response.on('error', reject)
        response.on('end', () => {
          try {
            resolve(answer(response, Buffer.concat(parts).toString('utf8')))
          } catch (error) {
            reject(error)
          }
        })
      })
      sent.on('error', (error) => reject(this._gone(error)))
      sent.end(body)
    })
  }

  /** Ends the server and everything it runs. */
  async close() {
    this._agent.destroy()
    this._child.stdin.end()
    const stubborn = setTimeout(() => this._child.kill('SIGKILL'), 10000)
    await this._ended
    clearTimeout(stubborn)
  }

  _gone(error) {
    const { exitCode, signalCode } = this._child
    if (exitCode === null && signalCode === null) return error
    return new Error(`undocked has ended (${signalCode || `exit code ${exitCode}`}):\n${this.log}`)
  }
}

function answer(response, text) {
  const log = response.headers['x-amz-log-result']
  const found = {
    statusCode: response.statusCode,
    requestId: response.headers['x-amzn-requestid'],
    functionError: response.headers['x-amz-function-error'],
    logTail: log === undefined ? undefined : Buffer.from(log, 'base64').toString('utf8'),
    payload: text === '' ? undefined : JSON.parse(text),
  }
  if (response.statusCode >= 300) {
    const type = response.headers['x-amzn-errortype'] || `status ${response.statusCode}`
    const message = (found.payload && (found.payload.Message || found.payload.message)) || text
    throw Object.assign(new Error(`${type}: ${message}`), { code: type, statusCode: response.statusCode })
  }
  return found
}

/** Starts a function that stays warm. Resolves once it can be invoked. */
function serve(options) {
  options = options || {}
  if (!options.image && !options.dockerImage) return Promise.reject(new TypeError('`image` says what the function runs in, and is missing'))
  const child = spawn(program(), serveArguments(options), { stdio: ['pipe', 'pipe', 'pipe'] })
  const log = { text: '' }
  const server = new Server(child, log)
  // It ends when our end of its standard input does; a write to it never happens.
  child.stdin.on('error', () => {})
  return new Promise((resolve, reject) => {
    let rest = ''
    child.on('error', (error) => reject(new Error(`cannot start undocked: ${error.message}`)))
    child.on('exit', () => setImmediate(() => reject(server._gone(new Error('undocked has ended')))))
    const logged = (text) => {
      log.text = (log.text + text).slice(-LOG_TAIL)
      if (options.onLog) options.onLog(text)
    }
    // What the function writes to its standard output comes on ours, all else on standard error.
    child.stdout.setEncoding('utf8').on('data', logged)
    child.stderr.setEncoding('utf8').on('data', (text) => {
      logged(text)
      if (server.port) return
      rest += text
      const lines = rest.split('\n')
      rest = lines.pop()
      const found = lines.map((line) => LISTENING.exec(line)).find((match) => match)
      if (!found) return
      server.host = found[1]
      server.port = Number(found[2])
      // A test run that ends without `close` must not wait for it.
      for (const held of [child, child.stdin, child.stdout, child.stderr]) held.unref()
      resolve(server)
    })
  })
}

module.exports = { serve, FunctionError }
