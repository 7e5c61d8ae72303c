//! The policy as a table: socket in, decision and reason out.

use super::*;

fn policy(loopback: Loopback, routes: &[&str]) -> Policy {
    Policy {
        addresses: vec!["10.77.0.2/24".parse().unwrap()],
        addresses6: Vec::new(),
        routes6: Vec::new(),
        routes: routes.iter().map(|r| r.parse().unwrap()).collect(),
        loopback,
        rules: Vec::new(),
    }
}

fn net(text: &str) -> IpNet {
    IpNet::parse(text).unwrap()
}

fn listen(policy: &Policy, at: &str) -> (Decision, Reason) {
    policy.decide("nginx", Role::Listen, at.parse().unwrap(), false)
}

fn connect(policy: &Policy, to: &str) -> (Decision, Reason) {
    policy.decide("curl", Role::Connect, to.parse().unwrap(), false)
}

#[test]
fn listening_goes_by_the_bound_address() {
    let p = policy(Loopback::Kernel, &[]);
    for (at, decision, reason) in [
        ("0.0.0.0:80", Decision::Both, Reason::AnyAddress),
        ("[::]:80", Decision::Both, Reason::AnyAddress),
        ("[::ffff:0.0.0.0]:80", Decision::Both, Reason::AnyAddress),
        ("10.77.0.2:80", Decision::Mtcp, Reason::OwnAddress),
        ("[::ffff:10.77.0.2]:80", Decision::Mtcp, Reason::OwnAddress),
        ("10.77.0.1:80", Decision::Kernel, Reason::OtherAddress),
        ("192.168.1.5:80", Decision::Kernel, Reason::OtherAddress),
        ("127.0.0.1:80", Decision::Kernel, Reason::Loopback),
        ("[::1]:80", Decision::Kernel, Reason::Ipv6),
        ("[fe80::1]:80", Decision::Kernel, Reason::Ipv6),
    ] {
        assert_eq!(listen(&p, at), (decision, reason), "{at}");
    }
}

#[test]
fn a_v6_only_socket_on_any_stays_with_the_kernel() {
    let p = policy(Loopback::Kernel, &[]);
    let decided = p.decide("nginx", Role::Listen, "[::]:80".parse().unwrap(), true);
    assert_eq!(decided, (Decision::Kernel, Reason::Ipv6));
}

#[test]
fn connecting_goes_by_the_route() {
    let p = policy(Loopback::Kernel, &["192.168.0.0/16", "192.168.7.0/24"]);
    let connected = Reason::Connected(net("10.77.0.0/24"));
    for (to, decision, reason) in [
        ("10.77.0.1:80", Decision::Mtcp, connected),
        ("[::ffff:10.77.0.1]:80", Decision::Mtcp, connected),
        (
            "192.168.1.1:80",
            Decision::Mtcp,
            Reason::Route(net("192.168.0.0/16")),
        ),
        (
            "192.168.7.1:80",
            Decision::Mtcp,
            Reason::Route(net("192.168.7.0/24")),
        ),
        ("8.8.8.8:53", Decision::Kernel, Reason::NoRoute),
        ("10.77.0.2:80", Decision::Kernel, Reason::OwnAddress),
        ("127.0.0.1:80", Decision::Kernel, Reason::Loopback),
        ("0.0.0.0:80", Decision::Kernel, Reason::Loopback),
        ("10.77.0.255:80", Decision::Kernel, Reason::NotUnicast),
        ("255.255.255.255:80", Decision::Kernel, Reason::NotUnicast),
        ("224.0.0.1:80", Decision::Kernel, Reason::NotUnicast),
        ("[::1]:80", Decision::Kernel, Reason::Ipv6),
        ("[::]:80", Decision::Kernel, Reason::Ipv6),
        ("[2001:db8::1]:80", Decision::Kernel, Reason::Ipv6),
    ] {
        assert_eq!(connect(&p, to), (decision, reason), "{to}");
    }
}

#[test]
fn a_gateway_takes_every_destination_but_the_loopback() {
    let p = policy(Loopback::Kernel, &["0.0.0.0/0"]);
    let decided = (Decision::Mtcp, Reason::Route(Ipv4Net::ALL.into()));
    assert_eq!(connect(&p, "8.8.8.8:53"), decided);
    assert_eq!(
        connect(&p, "127.0.0.1:80"),
        (Decision::Kernel, Reason::Loopback)
    );
}

#[test]
fn the_stack_carries_the_loopback_when_told() {
    let p = policy(Loopback::Stack, &[]);
    let loopback = (Decision::Mtcp, Reason::Loopback);
    assert_eq!(listen(&p, "127.0.0.1:80"), loopback);
    assert_eq!(connect(&p, "127.0.0.1:80"), loopback);
    assert_eq!(connect(&p, "0.0.0.0:80"), loopback);
    assert_eq!(
        connect(&p, "10.77.0.2:80"),
        (Decision::Mtcp, Reason::OwnAddress)
    );
    assert_eq!(
        listen(&p, "0.0.0.0:80"),
        (Decision::Both, Reason::AnyAddress)
    );
}

fn rule(program: Option<&str>, role: Option<Role>, address: &str, port: &str, to: &str) -> Rule {
    Rule {
        program: program.map(str::to_owned),
        role,
        address: IpNet::parse(address).unwrap(),
        ports: Ports::parse(port).unwrap(),
        to: Decision::parse(to).unwrap(),
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut p = policy(Loopback::Kernel, &[]);
    p.rules = vec![
        rule(Some("curl"), None, "0.0.0.0/0", "80", "kernel"),
        rule(
            None,
            Some(Role::Listen),
            "0.0.0.0/0",
            "80,8000-8100",
            "mtcp",
        ),
        rule(None, None, "0.0.0.0/0", "0-65535", "kernel"),
    ];
    assert_eq!(
        connect(&p, "10.77.0.1:80"),
        (Decision::Kernel, Reason::Rule(1))
    );
    assert_eq!(listen(&p, "0.0.0.0:80"), (Decision::Mtcp, Reason::Rule(2)));
    assert_eq!(
        listen(&p, "127.0.0.1:8100"),
        (Decision::Mtcp, Reason::Rule(2))
    );
    assert_eq!(
        listen(&p, "0.0.0.0:8101"),
        (Decision::Kernel, Reason::Rule(3))
    );
    assert_eq!(
        connect(&p, "10.77.0.1:81"),
        (Decision::Kernel, Reason::Rule(3))
    );
}

#[test]
fn a_rule_goes_by_address() {
    let mut p = policy(Loopback::Kernel, &[]);
    p.rules = vec![rule(None, None, "8.8.0.0/16", "0-65535", "mtcp")];
    assert_eq!(connect(&p, "8.8.4.4:53"), (Decision::Mtcp, Reason::Rule(1)));
    assert_eq!(
        connect(&p, "8.9.4.4:53"),
        (Decision::Kernel, Reason::NoRoute)
    );
}

#[test]
fn a_rule_to_both_is_for_listening_sockets() {
    let mut p = policy(Loopback::Kernel, &[]);
    p.rules = vec![rule(None, None, "0.0.0.0/0", "0-65535", "both")];
    assert_eq!(
        listen(&p, "10.77.0.2:80"),
        (Decision::Both, Reason::Rule(1))
    );
    assert_eq!(
        connect(&p, "8.8.8.8:53"),
        (Decision::Kernel, Reason::NoRoute)
    );
}

#[test]
fn rules_do_not_hold_for_ipv6() {
    let mut p = policy(Loopback::Kernel, &[]);
    p.rules = vec![rule(None, None, "0.0.0.0/0", "0-65535", "mtcp")];
    assert_eq!(
        connect(&p, "[2001:db8::1]:80"),
        (Decision::Kernel, Reason::Ipv6)
    );
}

#[test]
fn ports_are_numbers_and_ranges() {
    let ports = Ports::parse("80, 8000-8100").unwrap();
    assert!(ports.contains(80) && ports.contains(8000) && ports.contains(8100));
    assert!(!ports.contains(81) && !ports.contains(8101) && !ports.contains(0));
    assert_eq!(ports.to_string(), "80,8000-8100");
    for wrong in ["", "80,", "65536", "90-80", "-1", "http", "1-2-3"] {
        assert_eq!(Ports::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_star_stands_for_any_characters() {
    for (pattern, text, fits) in [
        ("nginx", "nginx", true),
        ("nginx", "nginx2", false),
        ("python*", "python3.11", true),
        ("python*", "python", true),
        ("*sh", "bash", true),
        ("*", "", true),
        ("a*a", "a", false),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c", false),
        ("**x", "x", true),
    ] {
        assert_eq!(glob(pattern, text), fits, "{pattern:?} on {text:?}");
    }
}

#[test]
fn with_ipv6_its_addresses_are_decided_as_ipv4s_are() {
    let mut policy = policy(Loopback::Kernel, &[]);
    policy.addresses6 = vec!["fd77::2/64".parse().unwrap()];
    let routes = ["2001:db8:1::/48", "2001:db8:1:2::/64"];
    policy.routes6 = routes.map(|route| route.parse().unwrap()).into();
    let decide = |role, address: &str, only| {
        let address = address.parse().unwrap();
        policy.decide("nginx", role, address, only)
    };
    for (address, decision, reason) in [
        (
            "[fd77::1]:80",
            Decision::Mtcp,
            Reason::Connected(net("fd77::/64")),
        ),
        ("[fd77::2]:80", Decision::Kernel, Reason::OwnAddress),
        ("[::1]:80", Decision::Kernel, Reason::Loopback),
        ("[fe80::1]:80", Decision::Kernel, Reason::LinkLocal),
        ("[ff02::1]:80", Decision::Kernel, Reason::NotUnicast),
        ("[2001:db8::1]:80", Decision::Kernel, Reason::NoRoute),
        (
            "[2001:db8:1::1]:80",
            Decision::Mtcp,
            Reason::Route(net("2001:db8:1::/48")),
        ),
        (
            "[2001:db8:1:2::1]:80",
            Decision::Mtcp,
            Reason::Route(net("2001:db8:1:2::/64")),
        ),
    ] {
        let decided = decide(Role::Connect, address, false);
        assert_eq!(decided, (decision, reason), "{address}");
    }
    for (address, only, decision, reason) in [
        ("[::]:80", false, Decision::Both, Reason::AnyAddress),
        ("[::]:80", true, Decision::Both, Reason::AnyAddress),
        ("[fd77::2]:80", false, Decision::Mtcp, Reason::OwnAddress),
        ("[::1]:80", false, Decision::Kernel, Reason::Loopback),
        (
            "[2001:db8::1]:80",
            false,
            Decision::Kernel,
            Reason::OtherAddress,
        ),
    ] {
        let decided = decide(Role::Listen, address, only);
        assert_eq!(decided, (decision, reason), "{address}");
    }
}
