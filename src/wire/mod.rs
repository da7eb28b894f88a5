//! Datagram bytes to frames and back.
