//! A node: accept, route, produce, fetch, peer, admin, metrics.
