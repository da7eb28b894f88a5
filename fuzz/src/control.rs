//! A line on the control socket: a request, or a refusal that fits in an answer.

use ctsyncd::control::message::{Request, Response};

/// Longest refusal that quotes a client's own words, bytes: 300 characters and what is around them.
const REFUSAL_BYTES_MAX: usize = 1_300;

/// Reads any bytes as the line of a client, and as that of a daemon.
pub fn run(bytes: &[u8]) -> usize {
    let _: Result<Response, _> = serde_json::from_slice(bytes);
    match Request::parse(bytes) {
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("a request can be written");
            assert_eq!(Request::parse(&line), Ok(request));
            1
        }
        Err(why) => {
            assert!(!why.is_empty() && why.len() <= REFUSAL_BYTES_MAX, "{why}");
            0
        }
    }
}
