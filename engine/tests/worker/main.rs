//! The worker as its network and its applications see it, with a clock of the test's own: what it
//! does for those that keep the rules, and that it survives those that do not.

mod app;
mod bed;
mod conversation;
mod dice;
mod frames;
mod hostile_application;
mod hostile_network;
mod scripts;

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
mod path_mtu;
mod robustness;
mod scarcity;
mod workers;
