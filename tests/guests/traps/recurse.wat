;; Recurses for ever: the wasm stack overflows. (In C the 64 KiB data stack would end first.)
(module
  (memory (export "memory") 1)
  (func $descend (param $depth i32) (result i32)
    (i32.add (i32.const 1) (call $descend (i32.add (local.get $depth) (i32.const 1)))))
  (func $_start (export "_start")
    (drop (call $descend (i32.const 0)))))
