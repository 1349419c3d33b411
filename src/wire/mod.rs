//! Messages on the wire: batch, request, peer.
