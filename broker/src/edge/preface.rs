//! The first bytes of a connection say which protocol it speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::writes::writes_as_its_io;

/// What every HTTP/2 client says first. HTTP/1.1 knows no method `PRI`.
pub(super) const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Reads until it is clear what the client speaks; also gives what was read.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut first = BytesMut::with_capacity(HTTP2.len());
    loop {
        if !HTTP2.starts_with(&first) {
            return Ok((Protocol::Http1, first.freeze()));
        }
        if first.len() == HTTP2.len() {
            return Ok((Protocol::Http2, first.freeze()));
        }
        let rest = HTTP2.len() - first.len();
        if (&mut *io).take(rest as u64).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A stream of bytes of which some were read already.
#[derive(Debug)]
pub(super) struct Rewound<Io> {
    first: Bytes,
    io: Io,
}

impl<Io> Rewound<Io> {
    /// `first` comes again, then the rest.
    pub(super) fn new(first: Bytes, io: Io) -> Self {
        Self { first, io }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Rewound<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

writes_as_its_io!(Rewound);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_protocol_is_clear_from_the_first_bytes_and_none_is_lost() {
        for (bytes, protocol, read_first) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"[..], Protocol::Http2, HTTP2.len()),
            (b"GET / HTTP/1.1\r\n\r\n", Protocol::Http1, 18),
            (b"PRIVATE / HTTP/1.1\r\n\r\n", Protocol::Http1, 22),
            (b"\x16\x03\x01 a TLS hello without TLS", Protocol::Http1, 24),
        ] {
            // Also byte by byte.
            for chunk in [1, 7, 1_000] {
                let mut io = slow_reader(bytes, chunk);
                let (found, first) = read(&mut io).await.unwrap();
                assert_eq!(found, protocol);
                assert!(first.len() <= read_first);
                let mut all = Vec::new();
                Rewound::new(first, io).read_to_end(&mut all).await.unwrap();
                assert_eq!(all, bytes);
            }
        }
        let cut = read(&mut &b"PRI * HT"[..]).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// Gives so many bytes at a time.
    fn slow_reader(bytes: &'static [u8], chunk: usize) -> impl AsyncRead + Unpin {
        struct Slow(&'static [u8], usize);
        impl AsyncRead for Slow {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let count = self.0.len().min(self.1).min(buffer.remaining());
                let (now, later) = self.0.split_at(count);
                buffer.put_slice(now);
                self.0 = later;
                Poll::Ready(Ok(()))
            }
        }
        Slow(bytes, chunk)
    }
}
