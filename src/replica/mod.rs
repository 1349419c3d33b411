//! One group on one node.
