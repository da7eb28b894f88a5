//! The protocol between two nodes.
