#!/usr/bin/env node
'use strict'
// `npx undocked ...`: the program itself, with our arguments and streams.

const { spawn } = require('child_process')
const { constants } = require('os')
const { program } = require('../program')

const child = spawn(program(), process.argv.slice(2), { stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']) {
  // A terminal sends its signals to both of us; what is sent to us alone is passed on.
  process.on(signal, () => {
    if (signal === 'SIGTERM' || !process.stdin.isTTY) child.kill(signal)
  })
}
child.on('error', (error) => {
  console.error(`undocked: cannot start \`${program()}\`: ${error.message}`)
  console.error('hint: install undocked, or name it with UNDOCKED_BIN')
  process.exit(error.code === 'ENOENT' ? 127 : 126)
})
child.on('exit', (code, signal) => process.exit(signal === null ? code : 128 + constants.signals[signal]))
