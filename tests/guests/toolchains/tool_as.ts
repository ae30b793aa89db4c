// One guest of AssemblyScript with its WASI shim: the first argument says what to do; see
// tests/integration/test_toolchains.py for what must come out.

import { poll_oneoff } from "@assemblyscript/wasi-shim/assembly/bindings/wasi_snapshot_preview1";

function upper(): void {
  const buffer = new ArrayBuffer(64);
  let read = process.stdin.read(buffer);
  while (read > 0) {
    process.stdout.write(String.UTF8.decode(buffer.slice(0, read)).toUpperCase());
    read = process.stdin.read(buffer);
  }
}

function passes(): void {
  const before = process.hrtime();
  const call = memory.data(48 + 32 + 8); // a subscription to 3 ms of the monotonic clock
  memory.fill(call, 0, 88);
  store<u32>(call, 1, 16);
  store<u64>(call, 3_000_000, 24);
  if (poll_oneoff(call, call + 48, 1, call + 80) != 0) throw new Error("no poll");
  if (process.hrtime() - before < 3_000_000) throw new Error("too short");
  if (Date.now() < 1_700_000_000_000) throw new Error("the past");
  console.log("time passed");
}

function differs(): void {
  const one = new Uint8Array(16), other = new Uint8Array(16);
  crypto.getRandomValues(one);
  crypto.getRandomValues(other);
  let same = 0;
  for (let at = 0; at < 16; at++) same += i32(one[at] == other[at]);
  if (same == 16) throw new Error("the same");
  console.log("random");
}

const args = process.argv;
const what = args.length > 1 ? args[1] : "hello";
if (what == "hello") console.log("hello from AssemblyScript");
else if (what == "args") console.log(args.length.toString() + " " + args[args.length - 1]);
else if (what == "env") console.log(process.env.get("NAME"));
else if (what == "exit") process.exit(i32.parse(args[2]));
else if (what == "stdin") upper();
else if (what == "sleep") passes();
else if (what == "random") differs();
else throw new Error("unknown: " + what);
