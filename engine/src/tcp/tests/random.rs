//! Random bytes and random segments: nothing panics, invariants hold.

use super::*;
use proptest::prelude::*;

fn any_options() -> impl Strategy<Value = Options> {
    let blocks = proptest::collection::vec(any::<(u32, u32)>(), 0..=MAX_SACK_BLOCKS);
    (
        any::<Option<u16>>(),
        any::<Option<u8>>(),
        any::<bool>(),
        any::<Option<(u32, u32)>>(),
        blocks,
    )
        .prop_map(|(mss, window_scale, sack_permitted, timestamps, blocks)| {
            let mut sack = SackBlocks::default();
            for (left, right) in blocks {
                sack.push(SeqNum(left), SeqNum(right));
            }
            Options {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                sack,
                fast_open: None,
            }
        })
}

/// Numbers near to where a connection stands, and some far away.
fn near() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => -3000i32..3000,
        1 => any::<i32>(),
        1 => 60_000..70_000,
    ]
    .prop_map(|offset| offset as u32)
}

/// Bits of a segment, mostly sensible ones.
fn flags() -> impl Strategy<Value = Flags> {
    prop_oneof![
        6 => Just(Flags::ACK),
        2 => Just(Flags::ACK | Flags::PSH),
        1 => Just(Flags::ACK | Flags::FIN),
        1 => any::<u8>().prop_map(Flags),
    ]
}

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    Segment {
        seq: u32,
        ack: u32,
        flags: Flags,
        window: u16,
        len: u64,
        stamp: i8,
        block: (u32, u32),
    },
    Garbage(Vec<u8>),
    Write(u64),
    Consume(u64),
    Timer,
    Wait(u64),
    Shutdown,
    Close,
    Options(bool, bool, Option<u32>),
    Icmp(u32, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let segment = (
        near(),
        near(),
        flags(),
        any::<u16>(),
        0u64..3000,
        any::<i8>(),
        (near(), near()),
    )
        .prop_map(
            |(seq, ack, flags, window, len, stamp, block)| Step::Segment {
                seq,
                ack,
                flags,
                window,
                len,
                stamp,
                block,
            },
        );
    prop_oneof![
        12 => segment,
        1 => proptest::collection::vec(any::<u8>(), 20..80).prop_map(Step::Garbage),
        4 => (0u64..20_000).prop_map(Step::Write),
        3 => any::<u64>().prop_map(Step::Consume),
        3 => Just(Step::Timer),
        2 => (0u64..5_000_000).prop_map(Step::Wait),
        1 => Just(Step::Shutdown),
        1 => Just(Step::Close),
        1 => (any::<bool>(), any::<bool>(), any::<Option<u32>>())
            .prop_map(|(nodelay, cork, buffer)| Step::Options(nodelay, cork, buffer)),
        1 => (near(), any::<u16>()).prop_map(|(seq, mss)| Step::Icmp(seq, mss)),
    ]
}

/// A receive stream that takes anything.
struct Sink;

impl RecvStream for Sink {
    fn store(&mut self, _offset: u64, _data: &[u8]) -> Result<(), NoRoom> {
        Ok(())
    }
}

fn check(tcb: &Tcb, before: (u64, u64, u64)) {
    let after = (tcb.snd.una, tcb.rcv.nxt, tcb.rcv.edge);
    assert!(before.0 <= after.0 && before.1 <= after.1 && before.2 <= after.2);
    assert!(tcb.snd.una <= tcb.snd.nxt && tcb.snd.nxt <= tcb.snd.end + 1);
    assert!(tcb.acked() <= tcb.snd.end && tcb.rcv.read <= tcb.data_end());
    assert!(
        tcb.pipe() <= 2 * tcb.snd.flight(),
        "repetitions count at most twice"
    );
    assert!(tcb.cwnd() >= 1 && tcb.mss() >= MIN_MSS - 12);
}

fn apply(host: &mut Host, now: &mut Instant, step: &Step) {
    match step {
        Step::Segment {
            seq,
            ack,
            flags,
            window,
            len,
            stamp,
            block,
        } => {
            let peer = host.peer_segment();
            let mut options = Options::default();
            if let Some((value, echo)) = host.tcb.ts.option(*now) {
                options.timestamps = Some((echo.wrapping_add_signed((*stamp).into()), value));
                options.sack.push(peer.ack + block.0, peer.ack + block.1);
            }
            let segment = Crafted {
                seq: peer.seq + *seq,
                ack: peer.ack + *ack,
                flags: *flags,
                window: *window,
                options,
                payload: Vec::new(),
            };
            let packet = segment.carrying(0, *len).packet();
            let _ = host.tcb.on_segment(*now, &packet.segment(), &mut Sink);
        }
        Step::Garbage(bytes) => {
            if let Ok(segment) = Segment::parse(bytes) {
                let _ = host.tcb.on_segment(*now, &segment, &mut Sink);
            }
        }
        Step::Write(len) if !host.tcb.fin_wanted => host.write(*len),
        Step::Write(_) => {}
        Step::Consume(head) => host.tcb.consumed(*now, *head),
        Step::Timer => {
            if let Some(at) = host.tcb.next_deadline() {
                *now = (*now).max(at);
                host.tcb.on_timer(*now);
            }
        }
        Step::Wait(micros) => {
            *now += Duration::from_micros(*micros);
            host.tcb.on_timer(*now);
        }
        Step::Shutdown => host.tcb.shutdown_write(*now),
        Step::Close => host.tcb.close(*now),
        Step::Options(nodelay, cork, recv_buffer) => {
            let (nodelay, cork, recv_buffer) = (*nodelay, *cork, *recv_buffer);
            let options = SocketOptions {
                nodelay,
                cork,
                recv_buffer,
                ..SocketOptions::default()
            };
            host.tcb.set_options(*now, &options);
        }
        Step::Icmp(seq, mss) => {
            let seq = host.tcb.iss.at(host.tcb.snd.nxt) + *seq;
            host.tcb
                .on_icmp_error(*now, IcmpError::PacketTooBig { mss: *mss }, seq);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(segment) = Segment::parse(&bytes) {
            prop_assert!(segment.payload.len() + MIN_HEADER_LEN <= bytes.len());
            let _ = reset_for(&segment);
        }
    }

    #[test]
    fn whatever_is_emitted_is_parsed_back(
        (seq, ack, flags, window, urgent) in any::<(u32, u32, u8, u16, u16)>(),
        options in any_options(),
    ) {
        let out = Outgoing {
            seq: SeqNum(seq), ack: SeqNum(ack), flags: Flags(flags), window, urgent, options,
            ecn: Codepoint::NotEct, payload: 0..0, mss: 0,
        };
        let mut bytes = vec![0; out.header_len()];
        out.emit(3, 4, &mut bytes);
        let segment = Segment::parse(&bytes).unwrap();
        prop_assert_eq!((segment.seq, segment.ack), (out.seq, out.ack));
        prop_assert_eq!((segment.flags, segment.window), (out.flags, window));
        let parsed = segment.options;
        prop_assert_eq!(Options { sack: options.sack, ..parsed }, options);
        prop_assert!(options.sack.as_slice().starts_with(parsed.sack.as_slice()));
    }

    #[test]
    fn no_sequence_of_events_breaks_a_connection(
        connecting in any::<bool>(),
        negotiate in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let cfg = if negotiate { TcpConfig::default() } else { plain() };
        let mut now = T0;
        let mut host = if connecting {
            Host::connect(now, &cfg, &SocketOptions::default())
        } else {
            established(&cfg, &SocketOptions::default()).0
        };
        host.burst = BURST;
        for step in &steps {
            let tcb = &host.tcb;
            let before = (tcb.snd.una, tcb.rcv.nxt, tcb.rcv.edge);
            apply(&mut host, &mut now, step);
            host.poll(now);
            check(&host.tcb, before);
        }
    }
}
