/* A fresh guest in Node: a new instance of a compiled module, its `_start` called once, dropped.
 *
 *   node fresh_guest.js WASM MILLIS      prints microseconds a guest
 */
'use strict';
const { readFileSync } = require('node:fs');

const module_ = new WebAssembly.Module(readFileSync(process.argv[2]));
const durationMs = Number(process.argv[3]);
const BATCH = 50;

function run(forMs) {
  const began = process.hrtime.bigint();
  const until = began + BigInt(forMs) * 1000000n;
  let count = 0;
  let now = began;
  while (now < until) {
    for (let i = 0; i < BATCH; i++) {
      new WebAssembly.Instance(module_, {}).exports._start();
    }
    count += BATCH;
    now = process.hrtime.bigint();
  }
  return Number(now - began) / 1e3 / count;
}

run(durationMs); // the optimiser and the collector settle
console.log(run(durationMs));
