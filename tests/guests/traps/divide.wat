;; Divides by zero, two calls deep.
(module
  (memory (export "memory") 1)
  (func $divide (param $a i32) (param $b i32) (result i32)
    (i32.div_s (local.get $a) (local.get $b)))
  (func $share_out (param $people i32)
    (drop (call $divide (i32.const 100) (local.get $people))))
  (func $_start (export "_start")
    (call $share_out (i32.const 0))))
