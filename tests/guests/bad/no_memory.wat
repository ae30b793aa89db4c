;; Has a memory but does not export it. Where it is allowed to run: log must give -EFAULT
;; (exit code 0), anything else is exit code 1.
(module
  (import "spear" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory 1)
  (data (i32.const 0) "hello")
  (func $_start (export "_start")
    (call $proc_exit
      (i32.ne (call $log (i32.const 2) (i32.const 0) (i32.const 5)) (i32.const -14)))))
