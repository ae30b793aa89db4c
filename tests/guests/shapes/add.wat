;; A reactor for warm calls: `_initialize` once, then `add` and `count` as often as one likes.
;; `count` gives how often it was called on this instance, so that a fresh one can be told.
(module
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func $_initialize (export "_initialize"))
  (func $add (export "add") (param $a i32) (param $b i32) (result i32)
    (i32.add (local.get $a) (local.get $b)))
  (func $count (export "count") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (global.get $calls)))
