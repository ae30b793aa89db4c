"""What an executor is made of, and the states of its guests, for native modules only."""
