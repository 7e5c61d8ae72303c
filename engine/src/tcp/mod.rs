//! TCP (RFC 9293) as a sans-IO core: no clock, no file descriptor, no packet buffer of its own.
//!
//! A [`Tcb`] is one connection. Its driver hands it segments ([`Tcb::on_segment`]), the passing of
//! time ([`Tcb::on_timer`]) and what the application does, and asks what to send
//! ([`Tcb::poll_transmit`]) and when to come back ([`Tcb::next_deadline`]). Payload never passes
//! through it: received bytes go straight into a [`RecvStream`], sent ones are named by their offsets
//! in the send stream. Offsets are 64 bits wide and count from the first byte after the SYN.

mod ack;
mod acknowledge;
mod arrival;
mod assembler;
mod chronograph;
mod config;
mod congestion;
mod cookies;
mod counters;
mod dsack;
mod ecn;
mod event;
mod fast_open;
mod frto;
mod handshake;
mod header;
mod icmp;
mod info;
mod input;
mod isn;
mod keyed;
mod marks;
mod news;
mod options;
mod orderly;
mod output;
mod pacing;
mod plain;
mod pmtu;
mod ports;
mod probe;
mod prr;
mod queries;
mod rack;
mod rare;
mod rate;
mod record;
mod recovery;
mod request;
mod reset;
mod retransmit;
mod rtt;
mod segment;
mod sent;
mod seq;
mod settings;
mod syn_ack;
mod tcb;
mod time;
mod time_wait;
mod timers;
mod timestamps;
mod tuning;
mod undo;
mod urgent;
mod usage;
mod window;

#[cfg(test)]
mod tests;

pub use config::{DEFAULT_MSS, MIN_MSS, SocketOptions, SynCookieUse, TcpConfig};
pub use congestion::{
    AckSample, Algorithm, Bbr, BbrDetails, Cause, CongestionControl, Cubic, Dctcp, DctcpDetails,
    Details, NewReno, RateSample,
};
pub use cookies::{COOKIE_LIFETIME, SynCookies};
pub use counters::Counters;
pub use ecn::{Codepoint, EcnMode};
pub use event::{Drop, Error, Events};
pub use fast_open::{Cookie, FastOpenKeys, FastOpenOutcome, Validity, bits as fast_open_bits};
pub use icmp::IcmpError;
pub use info::Info;
pub use isn::IsnGenerator;
pub use options::{MAX_SACK_BLOCKS, Options, SackBlocks};
pub use pmtu::{MtuProbing, PATH_MTU_LIFETIME};
pub use ports::PortSelector;
pub use recovery::Phase;
pub use request::{Expiry, Patience, Request, Verdict, timeouts_within};
pub use reset::reset_for;
pub use segment::{Flags, MIN_HEADER_LEN, Outgoing, ParseError, Segment};
pub use seq::SeqNum;
pub use settings::Settings;
pub use tcb::{NoRoom, RecvStream, State, Tcb};
pub use time::{Duration, Instant};
pub use time_wait::{TimeWait, WaitAnswer};
