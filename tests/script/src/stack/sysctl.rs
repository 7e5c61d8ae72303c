//! Linux's sysctls, as far as our configuration has an equivalent.

use crate::bed::Setup;
use engine::tcp::{Algorithm, Duration, EcnMode, MtuProbing, SynCookieUse};

/// Carries out `sysctl -q name=value …`.
///
/// # Errors
/// A command, name or value that has no equivalent here.
pub fn apply(setup: &mut Setup, command: &str) -> Result<(), String> {
    for (name, value) in settings(command)? {
        set(setup, &name, &value)?;
    }
    Ok(())
}

/// The names and values of a command, which may hold several of `sysctl`.
///
/// # Errors
/// Any other command.
pub fn settings(command: &str) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for part in command.split(['\n', ';']).map(str::trim) {
        if part.is_empty() {
            continue;
        }
        let Some(rest) = part.strip_prefix("sysctl ") else {
            return Err(format!("`{part}` is no sysctl"));
        };
        // A value in quotes may hold spaces.
        let mut quoted = false;
        let words = rest.split(|c: char| {
            quoted ^= c == '"';
            c == ' ' && !quoted
        });
        for word in words.filter(|w| !w.is_empty() && *w != "-q" && *w != "-w") {
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} sets nothing"))?;
            all.push((name.to_owned(), value.replace('"', "")));
        }
    }
    Ok(all)
}

fn set(setup: &mut Setup, name: &str, value: &str) -> Result<(), String> {
    let wrong = || format!("{name}={value} has no equivalent in the stack");
    let number = || value.parse::<u64>().map_err(|_| wrong());
    let small = || value.parse::<u8>().map_err(|_| wrong());
    let on = || match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(wrong()),
    };
    // Smallest, usual and largest buffer.
    let sizes = || -> Result<(u32, u32), String> {
        let numbers = value.split_whitespace().map(str::parse::<u32>);
        match numbers.collect::<Result<Vec<_>, _>>().as_deref() {
            Ok([_, usual, most]) => Ok((*usual, *most)),
            _ => Err(wrong()),
        }
    };
    let tcp = &mut setup.config.tcp;
    match name.trim_start_matches("net.") {
        "ipv4.tcp_timestamps" => tcp.timestamps = on()?,
        "ipv4.tcp_sack" => tcp.sack = on()?,
        "ipv4.tcp_dsack" => tcp.dsack = on()?,
        "ipv4.tcp_slow_start_after_idle" => tcp.slow_start_after_idle = on()?,
        "ipv4.tcp_window_scaling" => tcp.window_scaling = on()?,
        "ipv4.tcp_syn_retries" => tcp.syn_retries = small()?,
        "ipv4.tcp_synack_retries" => tcp.synack_retries = small()?,
        "ipv4.tcp_rto_max_ms" => tcp.rto_max = Duration::from_millis(number()?),
        "ipv4.tcp_invalid_ratelimit" => tcp.answer_interval = Duration::from_millis(number()?),
        "ipv4.tcp_retries2" => tcp.data_retries = small()?,
        "ipv4.tcp_orphan_retries" => tcp.orphan_retries = small()?,
        "ipv4.tcp_fin_timeout" => tcp.fin_wait2_timeout = Duration::from_secs(number()?),
        "ipv4.tcp_keepalive_time" => tcp.keepalive_idle = Duration::from_secs(number()?),
        "ipv4.tcp_keepalive_intvl" => tcp.keepalive_interval = Duration::from_secs(number()?),
        "ipv4.tcp_keepalive_probes" => tcp.keepalive_count = small()?,
        "ipv4.tcp_rmem" => {
            let (usual, most) = sizes()?;
            // Half of Linux's is for its own bookkeeping (tcp_adv_win_scale 1).
            (tcp.recv_buffer, tcp.recv_buffer_max) = (usual / 2, most);
        }
        "ipv4.tcp_wmem" => {
            (setup.config.send_buffer, setup.config.send_buffer_max) = sizes()?;
        }
        "ipv4.tcp_syncookies" => {
            tcp.syn_cookies = match value {
                "0" => SynCookieUse::Never,
                "1" => SynCookieUse::WhenFull,
                "2" => SynCookieUse::Always,
                _ => return Err(wrong()),
            };
        }
        "ipv4.tcp_congestion_control" => {
            let known = Algorithm::ALL.into_iter();
            let found = known.into_iter().find(|a| a.name() == value);
            tcp.congestion = found.ok_or_else(wrong)?;
        }
        "ipv4.tcp_fastopen" => tcp.fast_open = number()? as u32,
        "ipv4.tcp_ecn" => {
            tcp.ecn = match value {
                "0" => EcnMode::Off,
                "1" => EcnMode::On,
                "2" => EcnMode::Passive,
                _ => return Err(wrong()),
            };
        }
        "ipv4.tcp_mtu_probing" => {
            tcp.mtu_probing = match value {
                "0" => MtuProbing::Off,
                "1" => MtuProbing::BlackHole,
                "2" => MtuProbing::Always,
                _ => return Err(wrong()),
            };
        }
        "core.somaxconn" => setup.config.somaxconn = number()? as u32,
        _ => return Err(wrong()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_settings_stand_in_one_command() {
        let command = "sysctl -q net.ipv4.tcp_sack=0 net.ipv4.tcp_rmem=\"1 2 3\"\nsysctl -w a=b";
        let pairs = settings(command).unwrap();
        assert_eq!(pairs[0], ("net.ipv4.tcp_sack".into(), "0".into()));
        assert_eq!(pairs[1], ("net.ipv4.tcp_rmem".into(), "1 2 3".into()));
        assert_eq!(pairs[2], ("a".into(), "b".into()));
    }

    #[test]
    fn what_has_no_equivalent_is_refused() {
        for command in [
            "sysctl -q net.ipv4.tcp_abracadabra=1",
            "sysctl net.ipv4.tcp_sack=7",
            "rm -rf /",
        ] {
            assert!(apply(&mut Setup::host(1), command).is_err(), "{command}");
        }
    }
}
