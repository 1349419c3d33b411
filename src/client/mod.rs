//! The client library: producers, consumers, administration.
