//! The first frames of a lane: each side's certificate chain, opaque here, checked by the doorkeeper.
//!
//! **Invariant:** the listener writes its frame only after it has accepted the dialer's.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a first frame: a chain of dozens of root links fits.
pub const HELLO_FRAME_BYTES_MAX: usize = 64 << 10;

/// Writes `u32be length || bytes` and flushes it.
pub(super) async fn write_hello<C: AsyncWrite + Unpin>(io: &mut C, hello: &[u8]) -> io::Result<()> {
    let length = u32::try_from(hello.len()).ok();
    let length = length.filter(|_| hello.len() <= HELLO_FRAME_BYTES_MAX);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(4 + hello.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(hello);
    io.write_all(&frame).await?;
    io.flush().await
}

/// Reads one frame of at most [`HELLO_FRAME_BYTES_MAX`]; memory grows only with what really arrives.
pub(super) async fn read_hello<C: AsyncRead + Unpin>(io: &mut C) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u64::from(u32::from_be_bytes(length));
    if length > HELLO_FRAME_BYTES_MAX as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut hello = Vec::new();
    io.take(length).read_to_end(&mut hello).await?;
    match hello.len() as u64 == length {
        true => Ok(hello),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn only_whole_frames_of_a_decent_size_are_read() {
        type Row = (&'static [u8], Result<&'static [u8], io::ErrorKind>);
        let rows: [Row; 6] = [
            (&[0, 0, 0, 2, 7, 8, 9], Ok(&[7, 8])),
            (&[0, 0, 0, 0], Ok(&[])),
            (&[], Err(io::ErrorKind::UnexpectedEof)),
            (&[0, 0, 0], Err(io::ErrorKind::UnexpectedEof)),
            (&[0, 0, 0, 3, 1, 2], Err(io::ErrorKind::UnexpectedEof)),
            (&[0, 1, 0, 1, 0], Err(io::ErrorKind::InvalidData)),
        ];
        for (bytes, expected) in rows {
            let read = read_hello(&mut Cursor::new(bytes)).now_or_never().unwrap();
            let read = read.map_err(|error| error.kind());
            assert_eq!(read, expected.map(<[u8]>::to_vec), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, HELLO_FRAME_BYTES_MAX] {
            let mut wire = Cursor::new(Vec::new());
            let hello = vec![5; length];
            write_hello(&mut wire, &hello).now_or_never().unwrap().unwrap();
            let bytes = wire.into_inner();
            let read = read_hello(&mut Cursor::new(bytes)).now_or_never().unwrap();
            assert_eq!(read.unwrap(), hello);
        }
        let long = vec![0; HELLO_FRAME_BYTES_MAX + 1];
        let mut wire = Cursor::new(Vec::new());
        assert!(write_hello(&mut wire, &long).now_or_never().unwrap().is_err());
    }
}
