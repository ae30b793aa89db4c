;; Imports its memory instead of having one.
(module
  (import "env" "memory" (memory 1))
  (export "memory" (memory 0))
  (func $_start (export "_start")))
