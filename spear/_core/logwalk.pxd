"""The contract of logwalk; see logwalk.pyx."""
