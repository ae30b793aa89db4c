;; Wants 2,000 pages (125 MiB) at once; the default limit is 64 MiB.
(module
  (memory (export "memory") 2000)
  (func $_start (export "_start")))
