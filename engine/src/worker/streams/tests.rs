use super::*;
use context::NONE;
use context::layout::Plan;
use context::stream::{Reader, Writer};

const BOUNDS: Bounds<'_> = Bounds {
    limit: 300_000,
    writers: &[1],
};

fn setup() -> (Segment, ChunkPool) {
    let plan = Plan {
        workers: 1,
        sockets: 64,
        contexts: 2,
        ready_sets: 1,
        memory: 64 << 20,
    };
    let segment = Segment::create(&plan, b"", true, 0).unwrap();
    let pool = ChunkPool::new(segment.geometry().chunks, 0, 64 << 20);
    (segment, pool)
}

fn pattern(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64)
        .map(|i| ((i * 31) >> 3) as u8)
        .collect()
}

#[allow(unsafe_code)]
fn read(segment: &Segment, socket: &Socket, len: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Reader::lock(segment, socket, 1)
        .unwrap()
        .read(len, false, |p, n| {
            // SAFETY: the piece is inside a chunk and nobody writes to it now.
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(p, n) })
        });
    out
}

#[allow(unsafe_code)]
fn write(segment: &Segment, pool: &mut ChunkPool, socket: &Socket, data: &[u8]) -> u64 {
    let mut done = 0;
    Writer::lock(segment, socket, 1).unwrap().write(
        data.len() as u64,
        |class| pool.grant(class, 1),
        |to, n| {
            // SAFETY: the piece is inside a chunk and nobody reads it now.
            unsafe { std::ptr::copy_nonoverlapping(data[done..].as_ptr(), to, n) };
            done += n;
            n
        },
    )
}

/// Random reads and receipts, in and out of order, with reclaims in between.
#[test]
fn what_is_stored_is_read_and_all_memory_comes_back() {
    let (segment, mut pool) = setup();
    let socket = segment.socket(1).unwrap();
    socket.reset();
    let mut chain = RecvChain::default();
    let (mut received, mut taken) = (0u64, 0u64);
    let mut seed = 7u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        (seed >> 33) % n
    };
    for _ in 0..3000 {
        let most = if random(4) == 0 { 60_000 } else { 1500 };
        let len = 1 + random(most) as usize;
        let data = pattern(received, len);
        let half = len / 2;
        // The second half overtakes the first.
        let at = received + half as u64;
        assert!(chain.store(&segment, &mut pool, Some(socket), at, &data[half..]));
        assert!(chain.reclaim(socket, &mut pool, true));
        assert!(chain.store(&segment, &mut pool, Some(socket), received, &data[..half]));
        received += len as u64;
        chain.publish(Some(socket), received);
        let want = random(200_000);
        let got = read(&segment, socket, want);
        assert_eq!(got, pattern(taken, got.len()));
        taken += got.len() as u64;
        assert_eq!(chain.collect(socket, &mut pool), Some(taken));
        if random(3) == 0 {
            chain.reclaim(socket, &mut pool, false);
        }
    }
    let got = read(&segment, socket, u64::MAX);
    assert_eq!(got, pattern(taken, (received - taken) as usize));
    assert!(!chain.reclaim(socket, &mut pool, false));
    assert_eq!(pool.used(), 0);
}

#[test]
fn what_is_written_is_copied_out_and_all_memory_comes_back() {
    let (segment, mut pool) = setup();
    let socket = segment.socket(1).unwrap();
    socket.reset();
    socket.engine.tx_limit.store(300_000, Relaxed);
    let mut chain = SendChain::default();
    let (mut written, mut acked) = (0u64, 0u64);
    let mut seed = 3u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        (seed >> 33) % n
    };
    for _ in 0..3000 {
        for _ in 0..1 + random(3) {
            let most = if random(4) == 0 { 60_000 } else { 1500 };
            let len = 1 + random(most) as usize;
            written += write(&segment, &mut pool, socket, &pattern(written, len));
        }
        assert_eq!(
            chain.collect(&segment, socket, &mut pool, BOUNDS),
            Ok(written)
        );
        let mut out = vec![0; (written - acked) as usize];
        assert!(chain.copy_out(&segment, acked, &mut out));
        assert_eq!(out, pattern(acked, out.len()));
        acked += random(written - acked + 1);
        if random(3) == 0 {
            acked = written;
        }
        chain.release(acked, &mut pool);
        socket.engine.tx_head.store(acked, Release);
        if random(2) == 0 {
            chain.reclaim(socket, &mut pool);
        }
    }
    chain.release(written, &mut pool);
    assert!(!chain.reclaim(socket, &mut pool));
    assert_eq!(pool.used(), 0);
}

#[test]
fn impossible_cursors_and_chunks_are_refused() {
    let (segment, mut pool) = setup();
    let socket = segment.socket(1).unwrap();
    socket.reset();
    let mut send = SendChain::default();
    for (tail, chunk) in [(1u64 << 40, 0), (10, NONE), (10, 5)] {
        socket.app.tx_tail.store(tail, Relaxed);
        socket.app.tx_seek_chunk.store(chunk, Relaxed);
        assert_eq!(
            send.collect(&segment, socket, &mut pool, BOUNDS),
            Err(Nonsense),
            "{tail} {chunk}"
        );
    }
    let mut recv = RecvChain::default();
    socket.app.rx_head.store(1, Relaxed);
    assert_eq!(recv.collect(socket, &mut pool), None);
}
