;; The least guest that waits: one page, of which one host page is touched; it sleeps for ever.
(module
  (import "spear" "sleep_ms" (func $sleep_ms (param i32)))
  (memory (export "memory") 1)
  (func $_start (export "_start")
    (i32.store (i32.const 0) (i32.const 1))
    (call $sleep_ms (i32.const -1))))
