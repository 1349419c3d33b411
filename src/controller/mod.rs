//! Group 0: topics, partitions, nodes, producer ids.
