"""The import table of module `spear_trial`, for tests and benchmarks; see trial.pyx."""

from spear._core.imports cimport import_table

cdef import_table trial_table() noexcept nogil
