;; Three imports that no host has, beside two that it has: an error can name all three at once.
(module
  (import "spear" "time_now_ms" (func (result i64)))
  (import "spear" "teleport" (func $teleport (param i32) (result i32)))
  (import "env" "foo" (func $foo))
  (import "spear" "read_minds" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (drop (call $teleport (i32.const 1)))
    (call $foo)))
