//! `union tcp_cc_info` (`linux/inet_diag.h`), as `TCP_CC_INFO` returns it.

use crate::tcp::{BbrDetails, DctcpDetails, Details};

/// The struct of a connection's congestion control; empty where Linux has none.
pub fn bytes(details: &Details) -> Vec<u8> {
    match details {
        Details::None => Vec::new(),
        Details::Bbr(bbr) => of_bbr(bbr),
        Details::Dctcp(dctcp) => of_dctcp(dctcp),
    }
}

/// `struct tcp_bbr_info`. Gains are shown in 256ths.
fn of_bbr(bbr: &BbrDetails) -> Vec<u8> {
    let min_rtt = bbr.min_rtt.map_or(u64::MAX, |rtt| rtt.as_micros());
    let unit = |hundredths: u64| fitting(hundredths * 256 / 100);
    let rest = [fitting(min_rtt), unit(bbr.pacing_gain), unit(bbr.cwnd_gain)];
    let mut bytes = (bbr.bandwidth as u32).to_ne_bytes().to_vec();
    bytes.extend(((bbr.bandwidth >> 32) as u32).to_ne_bytes());
    bytes.extend(rest.into_iter().flat_map(u32::to_ne_bytes));
    bytes
}

/// `struct tcp_dctcp_info`: all zeros while DCTCP is NewReno because the peer knows no marks.
fn of_dctcp(dctcp: &DctcpDetails) -> Vec<u8> {
    if !dctcp.enabled {
        return vec![0; 16];
    }
    let mut bytes = 1u16.to_ne_bytes().to_vec();
    bytes.extend(u16::from(dctcp.congested).to_ne_bytes());
    let rest = [dctcp.alpha, fitting(dctcp.marked), fitting(dctcp.delivered)];
    bytes.extend(rest.into_iter().flat_map(u32::to_ne_bytes));
    bytes
}

/// What does not fit counts as the largest that does.
fn fitting(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::Duration;

    fn u32s(bytes: &[u8]) -> Vec<u32> {
        let (words, rest) = bytes.as_chunks();
        assert!(rest.is_empty());
        words.iter().map(|word| u32::from_ne_bytes(*word)).collect()
    }

    #[test]
    fn each_field_of_bbr_stands_in_its_place() {
        let mut bbr = BbrDetails {
            bandwidth: 7 << 32 | 9,
            min_rtt: Some(Duration::from_micros(250)),
            pacing_gain: 277,
            cwnd_gain: 200,
        };
        assert_eq!(u32s(&of_bbr(&bbr)), [9, 7, 250, 709, 512]);
        bbr.min_rtt = None;
        assert_eq!(u32s(&of_bbr(&bbr))[2], u32::MAX);
    }

    #[test]
    fn each_field_of_dctcp_stands_in_its_place_while_marks_are_in_use() {
        let mut dctcp = DctcpDetails {
            enabled: true,
            congested: true,
            alpha: 1024,
            marked: 5,
            delivered: u64::MAX,
        };
        let bytes = of_dctcp(&dctcp);
        assert_eq!(
            bytes[..4],
            [1u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat()
        );
        assert_eq!(u32s(&bytes)[1..], [1024, 5, u32::MAX]);
        dctcp.enabled = false;
        assert_eq!(u32s(&of_dctcp(&dctcp)), [0; 4]);
    }
}
