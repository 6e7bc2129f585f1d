'use strict'
// Needs UNDOCKED_BIN, TEST_IMAGE (a Node.js image of docker-lambda) and TEST_CODE (a folder with index.js, whose handler answers { got: event }, and fails for
// { fail: message }).

const assert = require('node:assert')
const { spawn } = require('node:child_process')
const path = require('node:path')
const test = require('node:test')
const dockerLambda = require('..')

const image = process.env.TEST_IMAGE
const taskDir = process.env.TEST_CODE

test('runs once, as docker-lambda does', () => {
  const options = { dockerImage: image, taskDir }
  assert.deepStrictEqual(dockerLambda({ ...options, event: { a: 1 } }), { got: { a: 1 } })
  assert.deepStrictEqual(dockerLambda({ ...options, event: 0 }), { got: {} })
  assert.deepStrictEqual(dockerLambda({ ...options, dockerArgs: ['-e', 'X=1'] }), { got: {} })
  const spawned = dockerLambda({ ...options, returnSpawnResult: true })
  assert.strictEqual(spawned.status, 0)
  assert.match(spawned.stderr, /^REPORT RequestId: /m)
})

test('throws what docker-lambda throws', () => {
  assert.throws(
    () => dockerLambda({ dockerImage: image, taskDir, event: { fail: 'no' } }),
    (error) => error.code === 1 && JSON.parse(error.stdout.trim()).errorMessage === 'no' && error.message === error.stdout && /START/.test(error.stderr)
  )
  assert.throws(() => dockerLambda({ dockerImage: 'oci:/nowhere' }), { code: 125, stdout: '' })
  assert.throws(() => dockerLambda({ spawnOptions: { env: { PATH: '/nowhere' }, cwd: '/nowhere/else' } }), { code: 'ENOENT' })
})

test('leaves PATH as it was', () => {
  const before = process.env.PATH
  dockerLambda({ dockerImage: image, taskDir })
  assert.strictEqual(process.env.PATH, before)
})

test('runs once without blocking', async () => {
  const options = { dockerImage: image, taskDir }
  const [one, two] = await Promise.all([dockerLambda.invoke({ ...options, event: { n: 1 } }), dockerLambda.invoke({ ...options, event: { n: 2 } })])
  assert.deepStrictEqual([one, two], [{ got: { n: 1 } }, { got: { n: 2 } }])
  await assert.rejects(dockerLambda.invoke({ ...options, event: { fail: 'no' } }), { code: 1 })
})

test('stays warm', async () => {
  let logged = ''
  const lambda = await dockerLambda.serve({ image, handler: 'index.handler', taskDir, env: { STAGE: 'test' }, onLog: (text) => (logged += text) })
  try {
    const [first, ...others] = await Promise.all([1, 2, 3, 4].map((n) => lambda.invoke({ n })))
    assert.deepStrictEqual(first, { got: { n: 1 } })
    assert.strictEqual(others.length, 3)
    await assert.rejects(lambda.invoke({ fail: 'no' }), { constructor: dockerLambda.FunctionError, name: 'Error', message: 'no' })
    const all = await lambda.call({ fail: 'no' })
    assert.strictEqual(all.statusCode, 200)
    assert.strictEqual(all.functionError, 'Unhandled')
    assert.match(all.logTail, /^REPORT RequestId: /m)
    assert.strictEqual((await lambda.call({}, { type: 'DryRun' })).statusCode, 204)
    await assert.rejects(lambda.call({}, { name: 'no name!' }), { code: 'ValidationException', statusCode: 400 })
  } finally {
    await lambda.close()
  }
  assert.match(logged, /Lambda API listening on port \d+/)
  await assert.rejects(lambda.invoke({}))
})

test('says why a server did not start', async () => {
  await assert.rejects(dockerLambda.serve({ image: 'oci:/nowhere' }), /exit code 125[^]*nowhere/)
  await assert.rejects(dockerLambda.serve({}), TypeError)
})

test('a server ends with its owner, also when that is killed', async () => {
  const script = `require(${JSON.stringify(path.join(__dirname, '..'))}).serve(${JSON.stringify({ image, handler: 'index.handler', taskDir })})
    .then((lambda) => { console.log(lambda.endpoint); setInterval(() => {}, 1000) })`
  const owner = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const endpoint = await new Promise((resolve) => owner.stdout.once('data', (text) => resolve(String(text).trim())))
  owner.kill('SIGKILL')
  // Refused once nobody listens any more.
  for (;;) {
    const refused = await fetch(`${endpoint}/2018-06-01/ping`).then(() => false, () => true)
    if (refused) break
  }
})
