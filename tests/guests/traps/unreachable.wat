;; Runs into `unreachable`, two calls deep, after a log line and half a line of output.
(module
  (import "spear" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\09\00\00\00")
  (data (i32.const 16) "half a li")
  (data (i32.const 32) "about to give up")
  (func $give_up
    unreachable)
  (func $work
    (drop (call $log (i32.const 3) (i32.const 32) (i32.const 16)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $give_up))
  (func $_start (export "_start")
    (call $work)))
