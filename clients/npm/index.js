'use strict'
// A drop-in for the module docker-lambda 0.15: the same function, options, errors and arguments of `docker`. And what that has not: `invoke`, which waits for
// nothing else, and `serve`, which keeps a function warm.

const childProcess = require('child_process')
const { promisify } = require('util')
const { program, asDocker } = require('./program')
const { serve, FunctionError } = require('./server')

const PASSED_ON = [
  'AWS_REGION',
  'AWS_DEFAULT_REGION',
  'AWS_ACCOUNT_ID',
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'AWS_LAMBDA_FUNCTION_NAME',
  'AWS_LAMBDA_FUNCTION_VERSION',
  'AWS_LAMBDA_FUNCTION_MEMORY_SIZE',
  'AWS_LAMBDA_FUNCTION_TIMEOUT',
  'AWS_LAMBDA_FUNCTION_HANDLER',
  'AWS_LAMBDA_EVENT_BODY',
  'DOCKER_LAMBDA_USE_STDIN',
]

// The arguments of `docker` for the options of docker-lambda.
function dockerArguments(options) {
  const taskDir = options.taskDir == null ? process.cwd() : options.taskDir
  const cleanUp = options.cleanUp == null ? true : options.cleanUp
  const args = ['run']
  if (taskDir) args.push('-v', `${taskDir}:/var/task`)
  if (cleanUp) args.push('--rm')
  if (options.addEnvVars) for (const name of PASSED_ON) args.push('-e', name)
  const event = JSON.stringify(options.event || {})
  return args.concat(options.dockerArgs || [], options.dockerImage || 'lambci/lambda:nodejs4.3', options.handler || 'index.handler', event)
}

// What the function answered: the last line, if it is JSON.
function lastLine(stdout) {
  const lines = stdout.trim().split('\n')
  try {
    return JSON.parse(lines[lines.length - 1])
  } catch (_) {
    return undefined
  }
}

function failed({ status, stdout, stderr }) {
  return Object.assign(new Error(stdout || stderr), { code: status, stdout, stderr })
}

/** Runs a function once and returns what it answered; throws if it fails. */
function dockerLambda(options) {
  options = options || {}
  const args = dockerArguments(options)
  const spawnOptions = options.spawnOptions || { encoding: 'utf8' }
  const result = asDocker(spawnOptions, (given) => childProcess.spawnSync('docker', args, given))
  if (options.returnSpawnResult) return result
  if (result.error) throw result.error
  if (result.status !== 0) throw failed(result)
  return result.stdout == null ? null : lastLine(result.stdout)
}

/** The same, without blocking this process. */
async function invoke(options) {
  options = options || {}
  const execFile = promisify(childProcess.execFile)
  const settings = { encoding: 'utf8', maxBuffer: Infinity, ...options.spawnOptions }
  try {
    const { stdout } = await execFile(program(), ['docker', ...dockerArguments(options)], settings)
    return lastLine(stdout)
  } catch (error) {
    if (error.stdout === undefined || typeof error.code === 'string') throw error
    throw failed({ status: error.code === undefined ? null : error.code, stdout: error.stdout, stderr: error.stderr })
  }
}

module.exports = dockerLambda
module.exports.invoke = invoke
module.exports.serve = serve
module.exports.FunctionError = FunctionError
