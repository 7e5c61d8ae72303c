use super::*;
use crate::net::InterfaceAddress;
use proptest::prelude::*;

const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

fn local() -> LocalAddresses {
    let mut local = LocalAddresses::default();
    local.add(InterfaceAddress::new(US, 24).unwrap()).unwrap();
    local
}

fn datagram(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ipv4::HEADER_LEN];
    Ipv4Header {
        src,
        dst,
        protocol,
        ttl: 61,
        tos: 0xb8,
        df: false,
        id: 77,
        payload_len: payload.len() as u16,
    }
    .emit(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn message(kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let message = IcmpMessage {
        kind,
        code,
        rest,
        data,
    };
    let mut bytes = vec![0; message.len()];
    message.emit(Sum::ZERO, &mut bytes);
    bytes
}

/// The first bytes of a segment from us, port 80, to the peer, port 40000, sequence 0x01020304.
fn our_segment() -> Vec<u8> {
    datagram(US, PEER, protocol::TCP, &[0, 80, 0x9c, 0x40, 1, 2, 3, 4])
}

/// What comes of an error with this quote.
fn error(kind: u8, code: u8, rest: [u8; 4], quote: &[u8]) -> Result<IcmpError, DropReason> {
    let bytes = datagram(
        ROUTER,
        US,
        protocol::ICMP,
        &message(kind, code, rest, quote),
    );
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    match receive(&packet, Destination::Ours, &local())? {
        IcmpInput::Error(error) => Ok(error),
        IcmpInput::Echo(reply) => panic!("an error is answered with {reply:?}"),
    }
}

fn udp_to(dst: Ipv4Addr, len: usize) -> Vec<u8> {
    datagram(PEER, dst, protocol::UDP, &vec![7; len])
}

#[test]
fn an_echo_request_is_answered_with_its_own_data() {
    let request = message(8, 0, [0x12, 0x34, 0, 9], b"ping data");
    let bytes = datagram(PEER, US, protocol::ICMP, &request);
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    let Ok(IcmpInput::Echo(reply)) = receive(&packet, Destination::Ours, &local()) else {
        panic!("no reply");
    };
    let mut out = vec![0; reply.len()];
    reply.emit(&mut out);
    let answer = Ipv4Packet::parse(&out).unwrap();
    assert_eq!((answer.src, answer.dst), (US, PEER));
    assert_eq!((answer.ttl, answer.tos), (DEFAULT_TTL, 0xb8));
    assert_eq!(
        IcmpMessage::parse(Sum::ZERO, answer.payload()),
        Ok(IcmpMessage {
            kind: 0,
            code: 0,
            rest: [0x12, 0x34, 0, 9],
            data: b"ping data"
        })
    );
}

#[test]
fn an_echo_request_to_all_is_not_answered() {
    let request = message(8, 0, [0; 4], b"");
    let bytes = datagram(PEER, Ipv4Addr::BROADCAST, protocol::ICMP, &request);
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    assert_eq!(
        receive(&packet, Destination::Broadcast, &local()),
        Err(DropReason::IcmpEchoBroadcast)
    );
}

#[test]
fn an_error_names_the_segment_it_is_about() {
    assert_eq!(
        error(3, 3, [0; 4], &our_segment()),
        Ok(IcmpError {
            kind: ErrorKind::PortUnreachable,
            from: ROUTER.into(),
            protocol: protocol::TCP,
            src: US.into(),
            dst: PEER.into(),
            src_port: 80,
            dst_port: 40_000,
            sequence: 0x0102_0304,
        })
    );
}

#[test]
fn each_code_has_its_meaning() {
    for (kind, code, meaning) in [
        (3, 0, ErrorKind::NetworkUnreachable),
        (3, 1, ErrorKind::HostUnreachable),
        (3, 2, ErrorKind::ProtocolUnreachable),
        (3, 5, ErrorKind::SourceRouteFailed),
        (3, 6, ErrorKind::NetworkUnreachable),
        (3, 7, ErrorKind::HostUnreachable),
        (3, 13, ErrorKind::Prohibited),
        (11, 0, ErrorKind::TimeExceeded),
        (12, 0, ErrorKind::ParameterProblem),
    ] {
        assert_eq!(
            error(kind, code, [0; 4], &our_segment()).unwrap().kind,
            meaning,
            "type {kind}, code {code}"
        );
    }
}

#[test]
fn messages_without_use_are_dropped() {
    for (kind, code) in [(3, 16), (4, 0), (5, 1), (8, 1), (9, 0), (13, 0), (255, 255)] {
        assert_eq!(
            error(kind, code, [0; 4], &our_segment()),
            Err(DropReason::IcmpUnknownType),
            "type {kind}, code {code}"
        );
    }
    assert_eq!(
        error(0, 0, [0; 4], b"unasked"),
        Err(DropReason::IcmpEchoReply)
    );
}

#[test]
fn fragmentation_needed_carries_the_next_hops_mtu() {
    let mtu = |rest, quote: &[u8]| error(3, 4, rest, quote).unwrap().kind;
    let told = mtu([0, 0, 0x05, 0xdc], &our_segment());
    assert_eq!(told, ErrorKind::FragmentationNeeded { mtu: 1500 });
    let impossible = mtu([0, 0, 0, 20], &our_segment());
    assert_eq!(impossible, ErrorKind::FragmentationNeeded { mtu: 68 });
}

#[test]
fn a_router_that_tells_no_mtu_means_the_next_plateau() {
    for (total_len, expected) in [
        (u16::MAX, 32_000),
        (1500, 1492),
        (1492, 1006),
        (68, 68),
        (0, 68),
    ] {
        let mut quote = our_segment();
        quote[2..4].copy_from_slice(&total_len.to_be_bytes());
        assert_eq!(
            error(3, 4, [0; 4], &quote).unwrap().kind,
            ErrorKind::FragmentationNeeded { mtu: expected },
            "of {total_len}"
        );
    }
}

#[test]
fn errors_about_what_we_did_not_send_are_dropped() {
    let anothers = datagram(PEER, US, protocol::TCP, &[0; 8]);
    let mut with_options = our_segment();
    with_options[0] = 0x46;
    let mut later_fragment = our_segment();
    later_fragment[7] = 1;
    let not_a_transport = datagram(US, PEER, protocol::ICMP, &[0; 8]);
    for quote in [anothers, with_options, later_fragment, not_a_transport] {
        assert_eq!(
            error(3, 1, [0; 4], &quote),
            Err(DropReason::IcmpBadQuote),
            "{quote:?}"
        );
    }
    for len in 0..28 {
        assert_eq!(
            error(3, 1, [0; 4], &our_segment()[..len]),
            Err(DropReason::IcmpBadQuote)
        );
    }
}

#[test]
fn a_closed_udp_port_is_reported_with_the_datagram_quoted() {
    let bytes = udp_to(US, 20);
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    let reply = ErrorSender::default()
        .unreachable(0, &packet, Destination::Ours, &local(), Unreachable::Port)
        .unwrap();
    let mut out = vec![0; reply.len()];
    reply.emit(&mut out);
    let sent = Ipv4Packet::parse(&out).unwrap();
    assert_eq!((sent.src, sent.dst), (US, PEER));
    let message = IcmpMessage::parse(Sum::ZERO, sent.payload()).unwrap();
    assert_eq!((message.kind, message.code), (3, 3));
    assert_eq!(message.data, bytes);
}

#[test]
fn an_error_is_at_most_576_bytes_long() {
    let bytes = udp_to(US, 1400);
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    let reply = ErrorSender::default()
        .unreachable(
            0,
            &packet,
            Destination::Ours,
            &local(),
            Unreachable::Protocol,
        )
        .unwrap();
    assert_eq!(reply.len(), 576);
}

#[test]
fn no_error_is_sent_about_icmp_broadcasts_or_martians() {
    let mut sender = ErrorSender::default();
    let icmp = datagram(PEER, US, protocol::ICMP, &[0; 8]);
    let from_all = datagram(Ipv4Addr::BROADCAST, US, protocol::UDP, &[0; 8]);
    let from_group = datagram(Ipv4Addr::new(224, 0, 0, 1), US, protocol::UDP, &[0; 8]);
    let from_nobody = datagram(Ipv4Addr::UNSPECIFIED, US, protocol::UDP, &[0; 8]);
    let to_all = udp_to(Ipv4Addr::BROADCAST, 8);
    for (bytes, to) in [
        (icmp, Destination::Ours),
        (from_all, Destination::Ours),
        (from_group, Destination::Ours),
        (from_nobody, Destination::Ours),
        (to_all, Destination::Broadcast),
    ] {
        let packet = Ipv4Packet::parse(&bytes).unwrap();
        assert_eq!(
            sender.unreachable(0, &packet, to, &local(), Unreachable::Port),
            None,
            "{packet:?}"
        );
    }
}

#[test]
fn errors_are_limited_to_a_burst_and_then_a_rate() {
    let mut sender = ErrorSender::default();
    let bytes = udp_to(US, 8);
    let packet = Ipv4Packet::parse(&bytes).unwrap();
    let mut sent = |now| {
        (0..200)
            .filter(|_| {
                sender
                    .unreachable(now, &packet, Destination::Ours, &local(), Unreachable::Port)
                    .is_some()
            })
            .count()
    };
    assert_eq!(sent(1_000_000), 50);
    assert_eq!(sent(1_000_000), 0);
    assert_eq!(sent(1_010_000), 10);
}

#[test]
fn only_what_does_not_pass_by_itself_is_hard() {
    assert!(ErrorKind::PortUnreachable.is_hard());
    assert!(ErrorKind::Prohibited.is_hard());
    assert!(!ErrorKind::HostUnreachable.is_hard());
    assert!(!ErrorKind::TimeExceeded.is_hard());
    assert!(!ErrorKind::FragmentationNeeded { mtu: 1400 }.is_hard());
}

proptest! {
    #[test]
    fn no_message_panics(
        kind in prop::sample::select(vec![0u8, 3, 4, 5, 8, 11, 12, 13]),
        code: u8,
        rest: [u8; 4],
        quote in prop::collection::vec(any::<u8>(), 0..60),
        as_ours: bool,
    ) {
        let mut quote = quote;
        if as_ours && quote.len() >= 20 {
            quote[0] = 0x45;
            quote[12..16].copy_from_slice(&US.octets());
        }
        let payload = message(kind, code, rest, &quote);
        let bytes = datagram(ROUTER, US, protocol::ICMP, &payload);
        let packet = Ipv4Packet::parse(&bytes).unwrap();
        let _ = receive(&packet, Destination::Ours, &local());
    }
}
