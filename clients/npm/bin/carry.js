'use strict'
// Before `npm pack`: takes the program into the package, from UNDOCKED_BIN or from the workspace's release build.

const fs = require('fs')
const path = require('path')

const built = path.join(__dirname, '..', '..', '..', 'target', 'release', 'undocked')
const source = process.env.UNDOCKED_BIN || built
if (!fs.existsSync(source)) {
  console.error(`there is no program at ${source}`)
  console.error('hint: build it with `cargo build --release`, or name it with UNDOCKED_BIN')
  process.exit(1)
}
const target = path.join(__dirname, 'undocked')
fs.copyFileSync(source, target)
fs.chmodSync(target, 0o755)
