;; A component, where a module is expected.
(component)
