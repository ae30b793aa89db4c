;; The least guest there is: one page, no imports, `_start` returns at once.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start")))
