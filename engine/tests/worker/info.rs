//! `TCP_INFO`, as an application gets it from the worker.

use crate::app::App;
use crate::bed::{Bed, Family, Setup, exchange};
use crate::conversation::Conversation;
use context::command::Op;
use context::context::INFO_WORDS;
use context::socket::state;
use engine::tcp::Algorithm;
use std::sync::atomic::Ordering::SeqCst;

over_both_families! {
    both_ends_tell_of_the_same_transfer,
    bbr_and_dctcp_tell_what_they_have_measured,
    a_listener_tells_of_its_queue_and_a_dead_connection_of_its_end,
}

/// `struct tcp_info` as bytes.
struct Info(Vec<u8>);

impl Info {
    fn of(bed: &mut Bed, app: &mut App, socket: u32) -> Info {
        let shared = bed.shared.clone();
        let context = shared.segment.context(app.context).unwrap();
        let seq = context.reply_seq.load(SeqCst).wrapping_add(1);
        app.command(Op::Info, socket, u64::from(seq));
        bed.settle();
        assert_eq!(context.reply_seq.load(SeqCst), seq, "there is an answer");
        let words = context.reply.iter().map(|word| word.load(SeqCst));
        Info(words.flat_map(u64::to_ne_bytes).collect())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }
}

/// The segment size with timestamps.
fn timestamped(family: Family) -> u32 {
    u32::from(family.mss()) - 12
}

fn both_ends_tell_of_the_same_transfer(family: Family) {
    let mss = timestamped(family);
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let sent = talk.client.app.send(talk.client.socket, &[7; 10_000]);
    assert_eq!(sent, 10_000);
    exchange(&mut a, &mut b, |_, _| true);
    let client = Info::of(&mut a, &mut talk.client.app, talk.client.socket);
    let server = Info::of(&mut b, &mut talk.server.app, talk.server.socket);
    for info in [&client, &server] {
        assert_eq!(u32::from(info.0[0]), state::ESTABLISHED);
        assert_eq!(info.0[5] & 7, 7, "timestamps, SACK, window scale");
        assert_eq!(info.u32(60), 1500, "pmtu");
        assert_eq!(info.u32(84), mss, "advmss");
        assert_eq!(info.u32(100), 0, "total_retrans");
    }
    assert_eq!(client.u64(120), 10_000, "bytes_acked");
    assert_eq!(server.u64(128), 10_000, "bytes_received");
    assert_eq!(client.u64(200), 10_000, "bytes_sent");
    let segments = 10_000u32.div_ceil(mss);
    assert_eq!(client.u32(156), segments, "data_segs_out");
    assert_eq!(server.u32(152), segments, "data_segs_in");
    assert_eq!(server.u32(20), mss, "rcv_mss");
    assert_eq!(
        client.u32(136),
        server.u32(140) + 1,
        "all that went out came, the SYN to the listener"
    );
    assert!(client.u32(80) >= 10, "snd_cwnd");
}

fn bbr_and_dctcp_tell_what_they_have_measured(family: Family) {
    const CC_INFO: usize = INFO_WORDS * 8 + 8;
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr, Algorithm::Dctcp] {
        let with = |host| {
            let mut setup = Setup::over(family, host);
            setup.config.tcp.congestion = algorithm;
            setup.build()
        };
        let (mut a, mut b) = (with(1), with(2));
        let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
        talk.client.app.send(talk.client.socket, &[7; 10_000]);
        exchange(&mut a, &mut b, |_, _| true);
        let info = Info::of(&mut a, &mut talk.client.app, talk.client.socket);
        let words = |n: usize| {
            (0..n)
                .map(|i| info.u32(CC_INFO + 4 * i))
                .collect::<Vec<_>>()
        };
        match (algorithm, info.u64(CC_INFO - 8)) {
            (Algorithm::Bbr, 20) => {
                assert_eq!(u64::from(words(1)[0]), info.u64(160), "bandwidth");
                let startup = 277 * 256 / 100;
                assert_eq!(words(5)[3..], [startup, 512]);
                assert!(words(5)[2] <= info.u32(148), "round trip");
            }
            (Algorithm::Dctcp, 16) => {
                assert_eq!(words(4)[0], 1, "enabled, without a mark of late");
                assert!(words(4)[1] < 1024, "alpha falls as nothing is marked");
                assert_eq!(words(4)[2], 0, "nothing marked");
            }
            (Algorithm::Cubic, 0) => {}
            (algorithm, len) => panic!("{len} bytes of {algorithm:?}"),
        }
    }
}

fn a_listener_tells_of_its_queue_and_a_dead_connection_of_its_end(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let other = talk.client.app.socket().unwrap();
    talk.client.app.connect(other, b.at(80));
    exchange(&mut a, &mut b, |_, _| true);
    let info = Info::of(&mut b, &mut talk.server.app, talk.listener);
    assert_eq!(u32::from(info.0[0]), state::LISTEN);
    assert_eq!((info.u32(24), info.u32(28)), (1, 10), "waiting and backlog");
    talk.server.app.reset(talk.server.socket);
    exchange(&mut a, &mut b, |_, _| true);
    let info = Info::of(&mut a, &mut talk.client.app, talk.client.socket);
    assert_eq!(u32::from(info.0[0]), state::CLOSE);
    assert_eq!(info.u32(16), timestamped(family), "tcpi_snd_mss, as it was");
}
