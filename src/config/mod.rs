//! The configuration: the file as written, the settings as used, and what is wrong with it.

pub mod settings;
