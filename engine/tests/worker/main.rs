//! The worker as its network and its applications see it, with a clock of the test's own: what it
//! does for those that keep the rules, and that it survives those that do not.

/// Makes of each function named, which takes a [`bed::Family`], a test over IPv4 and one over IPv6.
macro_rules! over_both_families {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn over_ipv4() {
                super::$name(crate::bed::Family::V4);
            }

            #[test]
            fn over_ipv6() {
                super::$name(crate::bed::Family::V6);
            }
        }
    )+};
}

mod app;
mod bed;
mod conversation;
mod dice;
mod frames;
mod hostile_application;
mod hostile_network;
mod scripts;

mod card;
mod closing;
mod connecting;
mod events;
mod fast_open;
mod floods;
mod holders;
mod info;
mod ipv6;
mod link;
mod listening;
mod loopback;
mod memory;
mod neighbors;
mod path_mtu;
mod put_off;
mod records;
mod robustness;
mod scarcity;
mod workers;
