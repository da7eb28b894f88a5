//! The tables of flows: what this node's kernel tracks, and what each peer's does.
