//! Node and client settings.
