//! A script as it was read.

use crate::wire::TcpOption;

/// A whole script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// `--name=value` lines at the top.
    pub options: Vec<(String, String)>,
    /// Why the script says nothing of Linux: the text behind `// stack only:`.
    pub stack_only: Option<String>,
    /// The lines, in order.
    pub events: Vec<Event>,
}

impl Script {
    /// Whether it runs over IPv6 (`--ip_version=ipv6`).
    pub fn is_ipv6(&self) -> bool {
        let mut options = self.options.iter();
        options.any(|(name, value)| name == "ip_version" && value == "ipv6")
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it stands, from 1.
    pub line: usize,
    /// When it is to happen.
    pub time: Time,
    /// What is to happen.
    pub action: Action,
}

/// When a line is to happen; microseconds. The two ends are the same unless a range was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Time {
    /// Since the script began.
    At(u64, u64),
    /// Since the line before.
    After(u64, u64),
    /// Whenever it comes.
    Any,
}

/// What a line does.
#[derive(Clone, Debug)]
pub enum Action {
    /// The network delivers a packet.
    Inject(Packet),
    /// The stack sends a packet.
    Expect(Packet),
    /// The application makes a call.
    Call(CallLine),
    /// A setting.
    Command(String),
    /// An assertion about `tcp_info`.
    Check(String),
}

/// A packet, in the script's own sequence numbers.
#[derive(Clone, Debug)]
pub struct Packet {
    /// ECN field of the IP header, as far as it matters.
    pub ecn: Option<Ecn>,
    /// Time to live, if it matters.
    pub ttl: Option<u8>,
    /// Source and destination port, where the connection at hand is not meant.
    pub ports: Option<(u16, u16)>,
    /// What it carries.
    pub body: Body,
}

/// ECN field of an IP header (RFC 3168 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ecn {
    /// Exactly these two bits.
    Is(u8),
    /// ECT(0) or ECT(1).
    AnyEct,
}

/// What a packet carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// A TCP segment.
    Tcp(Tcp),
    /// An ICMP message.
    Icmp(Icmp),
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// The flag bits as in the header.
    pub flags: u8,
    /// Sequence number of its first byte.
    pub seq: u32,
    /// Bytes of payload.
    pub len: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window field; `None`: not looked at, or a big one.
    pub window: Option<u16>,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options; `None`: not looked at.
    pub options: Option<Vec<TcpOption>>,
}

/// An ICMP message.
#[derive(Clone, Debug)]
pub struct Icmp {
    /// Name of the type, as packetdrill has it.
    pub kind: String,
    /// Name of the code.
    pub code: Option<String>,
    /// The MTU that it tells of.
    pub mtu: Option<u32>,
    /// Identifier of an echo.
    pub id: u16,
    /// Sequence number and length of the segment that it quotes.
    pub quoted: Option<(u32, u32)>,
}

/// A system call and what it is to return.
#[derive(Clone, Debug)]
pub struct CallLine {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Expression>,
    /// What it returns.
    pub result: Expression,
    /// The error, by name.
    pub errno: Option<String>,
    /// When a call that blocks returns, in microseconds, counted like the line's own time.
    pub until: Option<u64>,
}

/// An argument or result of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Expression {
    /// A number.
    Number(i64),
    /// A constant's name.
    Word(String),
    /// A text.
    Text(String),
    /// `...`: anything.
    Anything,
    /// Values joined by `|`.
    Or(Vec<Expression>),
    /// `[…]`.
    List(Vec<Expression>),
    /// `{name=value, …}`.
    Struct(Vec<(String, Expression)>),
    /// `name(…)`.
    Apply(String, Vec<Expression>),
}
