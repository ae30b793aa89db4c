;; Traps in its start function, during instantiation: `_start` is never reached.
(module
  (memory (export "memory") 1)
  (func $prepare
    unreachable)
  (start $prepare)
  (func $_start (export "_start")))
