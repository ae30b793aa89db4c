;; `time_now_ms` with the wrong result: i32, where the ABI says i64.
(module
  (import "spear" "time_now_ms" (func $time_now_ms (result i32)))
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (drop (call $time_now_ms))))
