//! Why a frame was dropped before TCP saw it: every reason is a counter.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// Why a frame was dropped below TCP. Each reason has a counter of its own.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of [`index`](Self::index).
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)+];

            /// The counter's name, in snake_case. Names do not change once released.
            pub const fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than an Ethernet header.
    FrameTooShort => "frame_too_short",
    /// Addressed to another station.
    EthernetNotForUs => "ethernet_not_for_us",
    /// The source is a multicast or broadcast address, all zeros, or our own.
    EthernetBadSource => "ethernet_bad_source",
    /// Neither ARP, IPv4 nor IPv6.
    EthernetUnknownType => "ethernet_unknown_type",

    /// Shorter than an ARP packet.
    ArpTooShort => "arp_too_short",
    /// Not Ethernet and IPv4, or their lengths lie (RFC 826).
    ArpBadFormat => "arp_bad_format",
    /// Neither a request nor a reply.
    ArpUnknownOperation => "arp_unknown_operation",
    /// The sender's addresses are not ones that a station can have.
    ArpBadSender => "arp_bad_sender",
    /// A request or reply between others.
    ArpNotForUs => "arp_not_for_us",

    /// Shorter than an IPv4 header.
    Ipv4TooShort => "ipv4_too_short",
    /// The version field is not 4.
    Ipv4BadVersion => "ipv4_bad_version",
    /// The header length is below 20 bytes or longer than the datagram.
    Ipv4BadHeaderLength => "ipv4_bad_header_length",
    /// The total length is shorter than the header.
    Ipv4BadTotalLength => "ipv4_bad_total_length",
    /// The total length is longer than the frame.
    Ipv4Truncated => "ipv4_truncated",
    /// The header checksum is wrong.
    Ipv4BadChecksum => "ipv4_bad_checksum",
    /// Carries IP options, which this stack rejects.
    Ipv4Options => "ipv4_options",
    /// A fragment, which this stack rejects.
    Ipv4Fragment => "ipv4_fragment",
    /// The time to live is 0: it should have been destroyed before (RFC 791 §3.2).
    Ipv4TtlZero => "ipv4_ttl_zero",
    /// The source is a broadcast address, limited or of a connected network.
    Ipv4SourceBroadcast => "ipv4_source_broadcast",
    /// The source is a multicast or reserved (240/4) address.
    Ipv4SourceMulticast => "ipv4_source_multicast",
    /// The source is in 0.0.0.0/8.
    Ipv4SourceUnspecified => "ipv4_source_unspecified",
    /// The source is in 127.0.0.0/8, but the frame came from outside.
    Ipv4SourceLoopback => "ipv4_source_loopback",
    /// The source is one of our own addresses, but the frame came from outside.
    Ipv4SourceOurs => "ipv4_source_ours",
    /// The destination is in 127.0.0.0/8, but the frame came from outside.
    Ipv4DestinationLoopback => "ipv4_destination_loopback",
    /// The destination is a multicast group; the stack is a member of none.
    Ipv4DestinationMulticast => "ipv4_destination_multicast",
    /// The destination is another host: this stack does not forward.
    Ipv4NotForUs => "ipv4_not_for_us",
    /// A unicast datagram in a link-layer broadcast (RFC 1122 §3.3.6).
    Ipv4UnicastInBroadcast => "ipv4_unicast_in_broadcast",
    /// A transport protocol other than ICMP, TCP and UDP.
    Ipv4UnknownProtocol => "ipv4_unknown_protocol",

    /// Shorter than an IPv6 header.
    Ipv6TooShort => "ipv6_too_short",
    /// The version field is not 6.
    Ipv6BadVersion => "ipv6_bad_version",
    /// The payload length is longer than the frame.
    Ipv6Truncated => "ipv6_truncated",
    /// An IPv6 packet, while the stack has no IPv6.
    Ipv6Unsupported => "ipv6_unsupported",
    /// The source is unspecified, loopback, multicast, IPv4-mapped, or our own.
    Ipv6BadSource => "ipv6_bad_source",
    /// The destination is another host, or a group that we are not in.
    Ipv6NotForUs => "ipv6_not_for_us",
    /// A unicast packet in a link-layer multicast.
    Ipv6UnicastInMulticast => "ipv6_unicast_in_multicast",
    /// An extension header that ends beyond the packet, or an option beyond its header.
    Ipv6BadExtension => "ipv6_bad_extension",
    /// More extension headers, options or padding than anybody sends.
    Ipv6ExtensionLimit => "ipv6_extension_limit",
    /// An option whose type says that who does not know it drops the packet.
    Ipv6UnknownOption => "ipv6_unknown_option",
    /// A routing header with segments left, of which no type is taken (RFC 5095).
    Ipv6RoutingHeader => "ipv6_routing_header",
    /// A fragment, other than one that is a whole packet (RFC 6946).
    Ipv6Fragment => "ipv6_fragment",
    /// A next header other than ICMPv6, TCP and UDP.
    Ipv6UnknownProtocol => "ipv6_unknown_protocol",
    /// Nothing follows the headers.
    Ipv6NoNextHeader => "ipv6_no_next_header",

    /// Shorter than an ICMP header.
    IcmpTooShort => "icmp_too_short",
    /// The ICMP checksum is wrong.
    IcmpBadChecksum => "icmp_bad_checksum",
    /// A type or code that this stack has no use for.
    IcmpUnknownType => "icmp_unknown_type",
    /// An echo request to a broadcast address (RFC 1122 §3.2.2.6).
    IcmpEchoBroadcast => "icmp_echo_broadcast",
    /// An echo reply: this stack sends no requests.
    IcmpEchoReply => "icmp_echo_reply",
    /// An error whose quoted datagram is too short, malformed, or was not sent by us.
    IcmpBadQuote => "icmp_bad_quote",

    /// An ICMPv6 "packet too big" with less than IPv6's least MTU (RFC 8201 §4).
    IcmpBadMtu => "icmp_bad_mtu",
    /// A neighbour discovery message that fails the checks of RFC 4861.
    NdpInvalid => "ndp_invalid",
    /// One in a fragment (RFC 6980).
    NdpFragmented => "ndp_fragmented",
    /// A solicitation or advertisement about others.
    NdpNotForUs => "ndp_not_for_us",
    /// A router advertisement while addresses are static, or a redirect: not listened to.
    NdpIgnored => "ndp_ignored",

    /// Shorter than a UDP header.
    UdpTooShort => "udp_too_short",
    /// The UDP length is below 8 or longer than the datagram.
    UdpBadLength => "udp_bad_length",
    /// The UDP checksum is wrong.
    UdpBadChecksum => "udp_bad_checksum",
    /// No socket is bound to the UDP port.
    UdpNoSocket => "udp_no_socket",

    /// A TCP segment whose checksum is wrong.
    TcpBadChecksum => "tcp_bad_checksum",
    /// A TCP segment to a broadcast address (RFC 1122 §4.2.3.10).
    TcpToBroadcast => "tcp_to_broadcast",

    /// To be sent, but no route leads to the destination.
    NoRoute => "no_route",
    /// To be sent, but the neighbour does not answer.
    NeighborUnreachable => "neighbor_unreachable",
    /// To be sent, but too much already waits for the neighbour's address.
    NeighborQueueFull => "neighbor_queue_full",
}

impl DropReason {
    /// Number of reasons: the length of an array of counters.
    pub const COUNT: usize = Self::ALL.len();

    /// Position in such an array, below [`COUNT`](Self::COUNT).
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for DropReason {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_indexes_its_own_counter() {
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), position);
        }
    }

    #[test]
    fn names_are_snake_case_and_unique() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for name in names {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }
}
