;; Reads four bytes of which the last two lie outside its one page, two calls deep.
(module
  (memory (export "memory") 1 1)
  (func $read_at (param $address i32) (result i32)
    (i32.load (local.get $address)))
  (func $look_up (param $address i32)
    (drop (call $read_at (local.get $address))))
  (func $_start (export "_start")
    (call $look_up (i32.const 65534))))
