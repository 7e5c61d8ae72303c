//! The SYN-ACK of a half-open connection, which has no control block yet.

use super::ecn::{self, Codepoint};
use super::options::{Options, TIMESTAMPS_LEN};
use super::request::Request;
use super::segment::{Flags, Outgoing};
use super::settings::Settings;
use super::time::Instant;
use super::timestamps;
use super::window::RecvSpace;

impl Request {
    /// What [`Tcb::accept`] would answer, without its control block.
    pub(super) fn build_syn_ack(&self, now: Instant, set: &Settings) -> Outgoing {
        let mss = set.own_mss;
        let mut rcv = RecvSpace::opening(now, set);
        rcv.nxt = 1;
        rcv.set_scarce(self.scarce, mss.into());
        let stamp = timestamps::clock(now).wrapping_add(self.ts_offset);
        let recent = self.ts_recent.filter(|_| set.timestamps);
        let stamps = if recent.is_some() {
            TIMESTAMPS_LEN as u16
        } else {
            0
        };
        let scaling = set.window_scaling && self.scale.is_some();
        let algorithm = set.congestion;
        let ecn = ecn::is_granted(set.ecn, algorithm, self.flags, self.ecn);
        let echo = if ecn { Flags::ECE } else { Flags(0) };
        Outgoing {
            seq: self.iss,
            ack: self.irs + 1,
            flags: Flags::SYN | Flags::ACK | echo,
            window: rcv.advertise_in_syn((mss - stamps).into()),
            urgent: 0,
            ecn: match ecn && algorithm.needs_marks() {
                true => Codepoint::Ect0,
                false => Codepoint::NotEct,
            },
            options: Options {
                mss: Some(mss),
                window_scale: scaling.then(|| rcv.scale.shift()),
                sack_permitted: set.sack && self.sack,
                timestamps: recent.map(|recent| (stamp, recent)),
                ..Options::default()
            },
            payload: 0..0,
            mss: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::request::tests::segment;
    use crate::tcp::{Algorithm, EcnMode, SeqNum, SocketOptions, Tcb, TcpConfig};

    const T0: Instant = Instant::from_millis(1000);

    #[test]
    fn the_answer_is_that_of_a_control_block() {
        let plain = (TcpConfig::default(), SocketOptions::default());
        let bare = TcpConfig {
            window_scaling: false,
            timestamps: false,
            sack: false,
            ecn: EcnMode::Off,
            ..plain.0
        };
        let small = SocketOptions {
            maxseg: Some(700),
            recv_buffer: Some(100_000),
            window_clamp: Some(30_000),
            ..plain.1
        };
        let marking = SocketOptions {
            congestion: Some(Algorithm::Dctcp),
            ..plain.1
        };
        for (cfg, opts) in [plain, (bare, plain.1), (plain.0, small), (bare, marking)] {
            let set = Settings::new(&cfg, &opts);
            for bits in 0..128 {
                let is = |bit: u32| bits & 1 << bit != 0;
                let mut syn = segment(Flags::SYN, 99, 0);
                syn.options = Options {
                    mss: is(0).then_some(1000),
                    window_scale: is(1).then_some(5),
                    sack_permitted: is(2),
                    timestamps: is(3).then_some((77, 0)),
                    ..Options::default()
                };
                if is(4) {
                    syn.flags |= Flags::ECE | Flags::CWR;
                }
                if is(5) {
                    syn.ecn = Codepoint::Ect0;
                }
                let (iss, offset) = (SeqNum(499), 7);
                let mut request = Request::new(T0, iss, offset, &syn);
                let mut tcb = Tcb::accept(T0, &set, iss, offset, &syn);
                request.set_scarce(is(6));
                tcb.set_scarce(is(6));
                let expected = Outgoing {
                    mss: 0,
                    ..tcb.poll_transmit(T0, usize::MAX).expect("a SYN-ACK")
                };
                let answer = request.syn_ack(T0, &set);
                assert_eq!(answer, expected, "to {syn:?}");
                let established = request.establish(T0, &set);
                assert_eq!(format!("{established:?}"), format!("{tcb:?}"));
            }
        }
    }
}
