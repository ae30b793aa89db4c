;; A table of 10 million elements; the limit is 100,000.
(module
  (memory (export "memory") 1)
  (table (export "table") 10000000 funcref)
  (func $_start (export "_start")))
