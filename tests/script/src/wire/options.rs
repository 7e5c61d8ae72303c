//! TCP options.

/// A TCP option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TcpOption {
    /// End of the list, where a script names it.
    End,
    /// Padding between options.
    Nop,
    /// Maximum segment size.
    Mss(u16),
    /// Shift of the windows that follow (RFC 7323).
    WindowScale(u8),
    /// SACK permitted (RFC 2018).
    SackPermitted,
    /// Blocks, left edge and right edge.
    Sack(Vec<(u32, u32)>),
    /// RFC 7323.
    Timestamps {
        /// TSval
        val: u32,
        /// TSecr
        ecr: u32,
    },
    /// A cookie; empty: asks for one (RFC 7413).
    FastOpen(Vec<u8>),
    /// Any other: kind and what follows the length.
    Other(u8, Vec<u8>),
}

/// The options as bytes, filled up with zeros to whole words.
pub fn encode(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        let (kind, data): (u8, Vec<u8>) = match option {
            TcpOption::End => {
                bytes.push(0);
                continue;
            }
            TcpOption::Nop => {
                bytes.push(1);
                continue;
            }
            TcpOption::Mss(mss) => (2, mss.to_be_bytes().to_vec()),
            TcpOption::WindowScale(shift) => (3, vec![*shift]),
            TcpOption::SackPermitted => (4, Vec::new()),
            TcpOption::Sack(blocks) => {
                let edges = blocks.iter().flat_map(|(left, right)| [left, right]);
                (5, edges.flat_map(|edge| edge.to_be_bytes()).collect())
            }
            TcpOption::Timestamps { val, ecr } => {
                (8, [val.to_be_bytes(), ecr.to_be_bytes()].concat())
            }
            TcpOption::FastOpen(cookie) => (34, cookie.clone()),
            TcpOption::Other(kind, data) => (*kind, data.clone()),
        };
        bytes.extend([kind, (data.len() + 2) as u8]);
        bytes.extend(data);
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Reads options; what follows an end of list is padding.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<TcpOption>, String> {
    let mut options = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        match kind {
            0 => break,
            1 => {
                options.push(TcpOption::Nop);
                bytes = rest;
                continue;
            }
            _ => {}
        }
        let len = rest.first().map_or(0, |len| usize::from(*len));
        let data = bytes.get(2..len).ok_or("a TCP option that is cut short")?;
        options.push(one(*kind, data));
        bytes = &bytes[len..];
    }
    Ok(options)
}

fn one(kind: u8, data: &[u8]) -> TcpOption {
    let word = |at: usize| data.get(at..at + 4).and_then(|w| w.try_into().ok());
    let word = |at: usize| word(at).map_or(0, u32::from_be_bytes);
    match (kind, data) {
        (2, [high, low]) => TcpOption::Mss(u16::from_be_bytes([*high, *low])),
        (3, [shift]) => TcpOption::WindowScale(*shift),
        (4, []) => TcpOption::SackPermitted,
        (5, blocks) if blocks.len() % 8 == 0 => {
            let starts = (0..blocks.len()).step_by(8);
            TcpOption::Sack(starts.map(|at| (word(at), word(at + 4))).collect())
        }
        (8, data) if data.len() == 8 => TcpOption::Timestamps {
            val: word(0),
            ecr: word(4),
        },
        (34, cookie) => TcpOption::FastOpen(cookie.to_vec()),
        _ => TcpOption::Other(kind, data.to_vec()),
    }
}
