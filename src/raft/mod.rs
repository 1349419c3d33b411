//! The consensus core. Pure: no clock, no randomness of its own, no IO.
