//! Reports of the groups that we are in (MLDv2, RFC 3810 §5.2), so that switches which look for
//! them pass neighbour solicitations on.

use std::net::Ipv6Addr;

use super::icmpv6::{self, kind};
use super::{IcmpMessage, Ipv6Header, ipv6, protocol};

/// Who listens to reports (RFC 3810 §5.2.14).
pub const REPORTS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// Groups in one report at most: more than a host with our bound on addresses has.
pub const MAX_GROUPS: usize = 32;

/// What a record says of a group (RFC 3810 §5.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// We are in it: the answer to a query.
    IsExclude = 2,
    /// We have joined it.
    ToExclude = 4,
}

/// A report about at most [`MAX_GROUPS`] groups, from our link-local address or, while there is
/// none, the unspecified one (RFC 3590).
pub fn report(src: Ipv6Addr, record: Record, groups: &[Ipv6Addr]) -> Vec<u8> {
    let groups = &groups[..groups.len().min(MAX_GROUPS)];
    let mut data = Vec::with_capacity(20 * groups.len());
    for group in groups {
        data.extend([record as u8, 0, 0, 0]);
        data.extend(group.octets());
    }
    let [high, low] = (groups.len() as u16).to_be_bytes();
    let message = IcmpMessage {
        kind: kind::LISTENER_REPORT,
        code: 0,
        rest: [0, 0, high, low],
        data: &data,
    };
    // Hop-by-hop options: a router alert (RFC 2711) and padding.
    let options = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let at = ipv6::HEADER_LEN + options.len();
    let mut packet = vec![0; at + message.len()];
    Ipv6Header {
        src,
        dst: REPORTS,
        next_header: 0,
        hop_limit: 1,
        traffic_class: 0,
        payload_len: (options.len() + message.len()) as u16,
    }
    .emit(&mut packet);
    packet[ipv6::HEADER_LEN..at].copy_from_slice(&options);
    icmpv6::emit(src, REPORTS, &message, &mut packet[at..]);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ipv6Packet, extension};

    #[test]
    fn a_report_names_its_groups_behind_a_router_alert() {
        let src = "fe80::1".parse().unwrap();
        let group = ipv6::solicited_node("fd77::2".parse().unwrap());
        let bytes = report(src, Record::ToExclude, &[group]);
        let packet = Ipv6Packet::parse(&bytes).unwrap();
        assert_eq!(packet.hop_limit, 1);
        let upper = extension::walk(&packet).unwrap();
        let message = icmpv6::parse(src, REPORTS, upper.payload).unwrap();
        assert_eq!((message.kind, message.rest), (143, [0, 0, 0, 1]));
        assert_eq!(message.data[..4], [4, 0, 0, 0]);
        assert_eq!(message.data[4..], group.octets());
    }

    #[test]
    fn a_report_is_bounded() {
        let src = "fe80::1".parse().unwrap();
        let bytes = report(src, Record::IsExclude, &[ipv6::ALL_NODES; 100]);
        assert_eq!(bytes.len(), 40 + 8 + 8 + 20 * MAX_GROUPS);
    }
}
