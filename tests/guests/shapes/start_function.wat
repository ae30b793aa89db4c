;; A start function that does its work before `_start`: exit code 0 only if it ran, and first.
(module
  (import "spear" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (global $prepared (mut i32) (i32.const 0))
  (data (i32.const 0) "prepared")
  (data (i32.const 16) "started")
  (func $prepare
    (global.set $prepared
      (i32.eqz (call $log (i32.const 2) (i32.const 0) (i32.const 8)))))
  (start $prepare)
  (func $_start (export "_start")
    (drop (call $log (i32.const 2) (i32.const 16) (i32.const 7)))
    (call $proc_exit (i32.eqz (global.get $prepared)))))
