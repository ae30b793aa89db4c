;; Loops for ever in its start function, during instantiation: a deadline must reach it there.
(module
  (memory (export "memory") 1)
  (func $prepare
    (loop $again
      (br $again)))
  (start $prepare)
  (func $_start (export "_start")))
