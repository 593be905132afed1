//! Two streams become one: what one end says the other hears, counted and held to the quotas.
//!
//! **Invariant:** a piece is in memory between its read and its write, and nowhere else.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use super::quota::Seat;

/// What is moved at once: a TLS record or two.
const PIECE_BYTES: usize = 32 << 10;
/// A connection that is silent for so long both ways is dead: control lanes say something every 15 s.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// How soon an agreement that has ended ends what is forwarded under it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Moves bytes both ways until both have ended, one has broken, nothing moves, a quota is used up or `allowed` says no.
pub(super) async fn run<S>(one: (S, &Seat), other: (S, &Seat), allowed: impl Fn() -> bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let seats = [one.1, other.1];
    let (mut one_reads, mut one_writes) = tokio::io::split(one.0);
    let (mut other_reads, mut other_writes) = tokio::io::split(other.0);
    let begun = Instant::now();
    let moved_at = AtomicU64::new(0);
    let moved = || moved_at.store(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    let watch = async {
        loop {
            sleep(LOOK_EVERY).await;
            let silent = begun.elapsed() - Duration::from_millis(moved_at.load(Ordering::Relaxed));
            if !allowed() || silent > IDLE_MAX {
                return;
            }
        }
    };
    let both = async {
        let there = pump(&mut one_reads, &mut other_writes, seats, &moved);
        let back = pump(&mut other_reads, &mut one_writes, seats, &moved);
        let _ = tokio::try_join!(there, back);
    };
    tokio::select! {
        () = both => {}
        () = watch => {}
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    seats: [&Seat; 2],
    moved: &impl Fn(),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = from.read(&mut piece).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        let waits = seats.map(|seat| seat.count(bytes));
        let [Some(one), Some(other)] = waits else { return Err(io::ErrorKind::QuotaExceeded.into()) };
        if one.max(other) > Duration::ZERO {
            sleep(one.max(other)).await;
        }
        to.write_all(&piece[..bytes]).await?;
        to.flush().await?;
        moved();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pakt_protocol::ids::AgreementId;
    use tokio::io::duplex;

    use super::*;
    use crate::exchange::relay::quota::Quotas;
    use crate::relay::RelayConfig;

    fn seats(bytes_per_hour: u64) -> (Seat, Seat) {
        let quotas = Arc::new(Quotas::new(RelayConfig { bytes_per_hour, ..RelayConfig::default() }));
        quotas.take_both(AgreementId([1; 32]), AgreementId([2; 32])).unwrap()
    }

    #[tokio::test]
    async fn what_one_says_the_other_hears_until_both_are_done() {
        let (mut a, near) = duplex(64);
        let (far, mut b) = duplex(64);
        let seats = seats(1 << 20);
        let ends = async {
            a.write_all(&[7; 1000]).await.unwrap();
            a.shutdown().await.unwrap();
            let mut heard = Vec::new();
            a.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let others = async {
            let mut heard = Vec::new();
            b.read_to_end(&mut heard).await.unwrap();
            b.write_all(b"back").await.unwrap();
            b.shutdown().await.unwrap();
            heard
        };
        let ((), back, there) = tokio::join!(run((near, &seats.0), (far, &seats.1), || true), ends, others);
        assert_eq!((back.as_slice(), there.len()), (&b"back"[..], 1000));
    }

    #[tokio::test]
    async fn p6_a_quota_and_the_end_of_an_agreement_cut_it() {
        for (quota, allowed, seconds) in [(10, true, 0), (1 << 20, false, 1)] {
            let (mut a, near) = duplex(64);
            let (far, _b) = duplex(64);
            let seats = seats(quota);
            a.write_all(&[7; 11]).await.unwrap();
            let begun = Instant::now();
            run((near, &seats.0), (far, &seats.1), || allowed).await;
            assert_eq!(begun.elapsed().as_secs(), seconds, "{quota} {allowed}");
        }
    }
}
