;; No `_start`: only another function, so it can be run by naming that as the entry.
(module
  (memory (export "memory") 1)
  (func $other (export "other")))
