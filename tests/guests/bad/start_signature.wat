;; A `_start` that wants a parameter and gives a result.
(module
  (memory (export "memory") 1)
  (func $_start (export "_start") (param i32) (result i32)
    local.get 0))
