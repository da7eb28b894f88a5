//! One bounded line from a client that may send anything.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// How reading a line ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LineEnd {
    /// A line is in the buffer, without its newline.
    Complete,
    /// The client closed; what it wrote after the last newline is in the buffer.
    Closed,
    /// The line is longer than allowed.
    TooLong,
}

/// Reads up to the next newline into `line`, never more than `bytes_max`.
///
/// May be dropped at any await: what was consumed so far is in `line`.
pub(super) async fn read_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<LineEnd> {
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(LineEnd::Closed);
        }
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let take = newline.unwrap_or(chunk.len());
        if line.len() + take > bytes_max {
            return Ok(LineEnd::TooLong);
        }
        line.extend_from_slice(&chunk[..take]);
        reader.consume(take + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(LineEnd::Complete);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_one_by_one_and_the_rest_when_the_client_closes() {
        let mut reader = tokio::io::BufReader::with_capacity(3, &b"first\n\nlast"[..]);

        assert_eq!(
            next(&mut reader, 8).await,
            (LineEnd::Complete, "first".into())
        );
        assert_eq!(
            next(&mut reader, 8).await,
            (LineEnd::Complete, String::new())
        );
        assert_eq!(next(&mut reader, 8).await, (LineEnd::Closed, "last".into()));
    }

    #[tokio::test]
    async fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
        let mut reader = &b"12345\n"[..];
        assert_eq!(next(&mut reader, 5).await.0, LineEnd::Complete);

        let mut reader = &b"123456\n"[..];
        let (end, kept) = next(&mut reader, 5).await;
        assert_eq!(end, LineEnd::TooLong);
        assert!(kept.len() <= 5);
    }

    async fn next<R: AsyncBufRead + Unpin>(reader: &mut R, max: usize) -> (LineEnd, String) {
        let mut line = Vec::new();
        let end = read_line(reader, &mut line, max)
            .await
            .expect("memory does not fail");
        (end, String::from_utf8(line).expect("test input is text"))
    }
}
