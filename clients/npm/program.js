'use strict'
// Where the undocked program is, and how it is started under docker's name.

const fs = require('fs')
const path = require('path')

// Holds `docker`, which starts undocked's docker face and nothing else.
const SHIM = path.join(__dirname, 'shim')
// `npm pack` puts the program here; a checkout has none.
const CARRIED = path.join(__dirname, 'bin', 'undocked')

// The program: UNDOCKED_BIN, else the one that this package carries, else `undocked` in PATH.
function program() {
  if (process.env.UNDOCKED_BIN) return process.env.UNDOCKED_BIN
  return fs.existsSync(CARRIED) ? CARRIED : 'undocked'
}

// Calls `call` while `docker` means undocked. Nothing else runs meanwhile: `call` is synchronous.
function asDocker(spawnOptions, call) {
  const search = (variables) => SHIM + path.delimiter + (variables.PATH || '/usr/local/bin:/usr/bin:/bin')
  const ours = { PATH: search(process.env), UNDOCKED_BIN: program() }
  if (spawnOptions && spawnOptions.env) {
    const env = spawnOptions.env
    return call({ ...spawnOptions, env: { ...env, PATH: search(env), UNDOCKED_BIN: ours.UNDOCKED_BIN } })
  }
  const before = {}
  for (const name of Object.keys(ours)) {
    before[name] = process.env[name]
    process.env[name] = ours[name]
  }
  try {
    return call(spawnOptions)
  } finally {
    for (const name of Object.keys(before)) {
      if (before[name] === undefined) delete process.env[name]
      else process.env[name] = before[name]
    }
  }
}

module.exports = { program, asDocker }
