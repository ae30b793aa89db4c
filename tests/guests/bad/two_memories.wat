;; Two memories; a guest may have one.
(module
  (memory (export "memory") 1)
  (memory (export "second") 1)
  (func $_start (export "_start")
    (i32.store 1 (i32.const 0) (i32.const 1))))
