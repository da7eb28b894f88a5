//! Everything ctsyncd decides, without doing any of it.

pub mod status;
