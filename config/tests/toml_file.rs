//! The TOML file: what it sets, what it warns about, and how its errors read.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use config::{Decision, Device, Error, HostAddress, Loaded, Loader, Loopback, Origin, Role};

fn load(text: &str) -> Result<Loaded, Error> {
    let mut loader = Loader::new();
    loader.toml_text(Path::new("mtcp.toml"), text)?;
    loader.finish()
}

/// The error's text, which has to be one line.
fn error(text: &str) -> String {
    let message = load(text).expect_err(text).to_string();
    assert!(!message.contains('\n'), "{message:?} is not one line");
    message
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load(text).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect()
}

fn line(line: usize) -> Origin {
    Origin::File {
        path: "mtcp.toml".into(),
        line,
    }
}

#[test]
fn every_kind_of_key_is_read() {
    let loaded = load(
        r#"
        device = "tap:mtcp0"
        mtu = 9000
        queues = 3
        address = "10.1.0.2/16"
        host_address = "10.1.0.1/16"
        gateway = "10.1.0.9"
        engine_cores = [1, 3, 4]
        app_cores = "0,2"
        spin_us = 0x64
        memory = "512M"
        loopback = "stack"
        trace = ["calls", "policy"]
        trace_file = "/tmp/trace"
        stats = 1

        [tcp]
        time_wait = "5s"
        keepalive = true

        [[route]]
        to = "192.168.5.1/16"
        via = "10.1.0.7"

        [[arp]]
        ip = "10.1.0.7"
        mac = "02:00:00:00:00:07"

        [[neighbor]]
        ip = "fe80::7"
        mac = "02:00:00:00:00:08"

        [[route]]
        to = "2001:db8::1/32"
        via = "fe80::7"

        [[rule]]
        program = "nginx"
        role = "listen"
        address = "0.0.0.0/0"
        port = "80,8000-8100"
        to = "both"

        [[rule]]
        port = 22
        to = "kernel"
        "#,
    )
    .unwrap();
    assert_eq!(loaded.warnings, []);
    let s = &loaded.settings;
    assert_eq!(s.device, Device::Tap(Some("mtcp0".to_owned())));
    assert_eq!((s.mtu, s.queues), (9000, Some(3)));
    assert_eq!(s.address, "10.1.0.2/16".parse().unwrap());
    assert_eq!(
        s.host_address,
        HostAddress::Is("10.1.0.1/16".parse().unwrap())
    );
    assert_eq!(s.gateway, Some([10, 1, 0, 9].into()));
    assert_eq!(s.engine_cores, [1, 3, 4]);
    assert_eq!(s.app_cores, [0, 2]);
    assert_eq!(s.spin, Duration::from_micros(100));
    assert_eq!(s.memory, 512 << 20);
    assert_eq!(s.loopback, Loopback::Stack);
    assert!(s.trace.calls && s.trace.policy);
    assert_eq!(s.trace_file.as_deref(), Some(Path::new("/tmp/trace")));
    assert_eq!(s.stats, Some(Duration::from_secs(1)));
    assert_eq!(s.tcp.time_wait, Duration::from_secs(5));
    assert!(s.tcp.keepalive);
    assert_eq!(s.routes[0].to, "192.168.0.0/16".parse().unwrap());
    assert_eq!(s.routes[0].via, Some([10, 1, 0, 7].into()));
    assert_eq!(s.neighbors[0].mac, [2, 0, 0, 0, 0, 7]);
    assert_eq!(s.routes6[0].to_string(), "2001:db8::/32 via fe80::7");
    let neighbor = s.neighbors6[0].to_string();
    assert_eq!(neighbor, "fe80::7/128 is at 02:00:00:00:00:08");
    assert_eq!(s.rules[0].program.as_deref(), Some("nginx"));
    assert_eq!(s.rules[0].role, Some(Role::Listen));
    assert_eq!(s.rules[0].to, Decision::Both);
    assert!(s.rules[1].ports.contains(22) && !s.rules[1].ports.contains(23));
    assert_eq!(loaded.origin("mtu"), line(3));
    assert_eq!(loaded.origin("tcp.keepalive"), line(19));
    assert_eq!(loaded.origin("log"), Origin::Default);
}

#[test]
fn an_empty_file_changes_nothing() {
    assert_eq!(
        load("").unwrap().settings,
        Loader::new().finish().unwrap().settings
    );
}

#[test]
fn the_reference_is_the_defaults() {
    let loaded = load(&config::reference()).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings, Loader::new().finish().unwrap().settings);
}

#[test]
fn the_examples_of_the_reference_are_valid() {
    let (_, tables) = config::reference()
        .split_once("## Tables")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("the reference has a part on tables");
    let is_code = |line: &&str| line.starts_with("[[") || line.contains(" = \"");
    let code: Vec<&str> = tables
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(is_code)
        .collect();
    let loaded = load(&code.join("\n")).unwrap();
    assert_eq!(loaded.warnings, []);
    let s = loaded.settings;
    let neighbors = s.neighbors.len() + s.neighbors6.len();
    assert_eq!((s.routes.len(), neighbors, s.rules.len()), (1, 1, 1));
}

#[test]
fn a_wrong_value_names_file_line_key_and_what_was_expected() {
    for (text, expected) in [
        (
            "mtu = 100",
            r#"mtcp.toml:1: mtu: expected a number of bytes from 576 to 65521, found "100""#,
        ),
        (
            "\n\nmtu = \"big\"",
            r#"mtcp.toml:3: mtu: expected a number of bytes from 576 to 65521, found "big""#,
        ),
        (
            "mtu = 1500.0",
            r#"mtcp.toml:1: mtu: expected a number of bytes from 576 to 65521, found "1500.0""#,
        ),
        (
            "mtu = { a = 1 }",
            r#"mtcp.toml:1: mtu: expected a number of bytes from 576 to 65521, found "table""#,
        ),
        (
            "loopback = true",
            r#"mtcp.toml:1: loopback: expected kernel or stack, found "true""#,
        ),
        (
            "engine_cores = [1, -2]",
            r#"mtcp.toml:1: engine_cores: expected a list of cores such as 1,3-5, or auto, found "1,-2""#,
        ),
        (
            "[tcp]\n\nrto_min = 200",
            r#"mtcp.toml:3: tcp.rto_min: expected a duration from 1ms to 60s such as 200ms, found "200""#,
        ),
        (
            "tcp = 5", "", // no such key, so a warning and no error
        ),
        (
            "[[rule]]\nto = \"nowhere\"",
            r#"mtcp.toml:2: rule.to: expected mtcp, kernel or both, found "nowhere""#,
        ),
        (
            "[[rule]]\nrole = \"connect\"\nto = \"both\"",
            r#"mtcp.toml:3: rule.to: expected mtcp or kernel, found "both""#,
        ),
        (
            "\n[[rule]]\nport = 80",
            "mtcp.toml:2: rule.to is missing: expected mtcp, kernel or both",
        ),
        (
            "[[rule]]\nport = \"http\"\nto = \"mtcp\"",
            r#"mtcp.toml:2: rule.port: expected ports such as 80,8000-8100, found "http""#,
        ),
        (
            "[[arp]]\nip = \"10.0.0.1\"\nmac = \"ff:ff:ff:ff:ff:ff\"",
            r#"mtcp.toml:3: arp.mac: expected a unicast MAC address such as 02:00:00:00:00:01, found "ff:ff:ff:ff:ff:ff""#,
        ),
        (
            "[[route]]\nto = \"2001:db8::/32\"\nvia = \"10.77.0.1\"",
            r#"mtcp.toml:3: route.via: expected an IPv6 address, found "10.77.0.1""#,
        ),
        (
            "[[neighbor]]\nip = \"fd77::/129\"\nmac = \"02:00:00:00:00:01\"",
            r#"mtcp.toml:2: neighbor.ip: expected an IP address, with a prefix for a network, such as 192.168.0.0/16 or fd00::/8, found "fd77::/129""#,
        ),
        (
            "rule = 5",
            r#"mtcp.toml:1: rule: expected tables, each headed [[rule]], found "integer""#,
        ),
        (
            "[rule]\nto = \"mtcp\"",
            r#"mtcp.toml:1: rule: expected tables, each headed [[rule]], found "table""#,
        ),
        (
            "route = [1]",
            r#"mtcp.toml:1: route: expected tables, each headed [[route]], found "integer""#,
        ),
    ] {
        if expected.is_empty() {
            assert!(load(text).is_ok(), "{text:?}");
        } else {
            assert_eq!(error(text), expected);
        }
    }
}

#[test]
fn the_first_error_of_a_file_is_reported() {
    assert!(error("queues = 0\nmtu = 1\naddress = 5").starts_with("mtcp.toml:1: queues:"));
}

#[test]
fn long_junk_is_cut_in_messages() {
    let message = error(&format!("device = {:?}", "x".repeat(10_000)));
    assert!(message.len() < 300, "{} bytes", message.len());
}

#[test]
fn a_file_that_is_not_toml_names_the_line() {
    let message = error("mtu = 1500\ndevice tap\n");
    assert!(message.starts_with("mtcp.toml:2: "), "{message}");
    let message = error("mtu = 1500\nmtu = 1400\n");
    assert!(message.starts_with("mtcp.toml:2: "), "{message}");
    assert!(message.contains("duplicate"), "{message}");
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_name() {
    assert_eq!(
        warnings("gatway = \"10.77.0.1\""),
        [r#"mtcp.toml:1: unknown key "gatway" is ignored; did you mean gateway?"#]
    );
    assert_eq!(
        warnings("colour = \"blue\""),
        [r#"mtcp.toml:1: unknown key "colour" is ignored"#]
    );
    assert_eq!(
        warnings("[tcp]\nrtomin = \"1s\""),
        [r#"mtcp.toml:2: unknown key "tcp.rtomin" is ignored; did you mean tcp.rto_min?"#]
    );
    assert_eq!(
        warnings("[[rules]]\nto = \"mtcp\""),
        [r#"mtcp.toml:1: unknown key "rules" is ignored; did you mean rule?"#]
    );
    assert_eq!(
        warnings("[[rule]]\nto = \"mtcp\"\nports = 80"),
        [r#"mtcp.toml:3: unknown key "rule.ports" is ignored; did you mean port?"#]
    );
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    for (text, expected) in [
        (
            "address = \"10.77.0.0/24\"",
            "mtcp.toml:1: address: 10.77.0.0/24 is not the address of a host",
        ),
        (
            "address = \"127.0.0.1/8\"",
            "mtcp.toml:1: address: 127.0.0.1/8 is not the address of a host",
        ),
        (
            "\ngateway = \"10.78.0.1\"",
            "mtcp.toml:2: gateway: 10.78.0.1 is not another host of the stack's network 10.77.0.2/24",
        ),
        (
            "gateway = \"10.77.0.2\"",
            "mtcp.toml:1: gateway: 10.77.0.2 is not another host of the stack's network 10.77.0.2/24",
        ),
        (
            "host_address = \"10.78.0.1/24\"",
            "mtcp.toml:1: host_address: 10.78.0.1/24 is not another host of the stack's network 10.77.0.2/24",
        ),
        (
            "[[route]]\nto = \"1.0.0.0/8\"\nvia = \"10.78.0.1\"",
            "mtcp.toml:1: route: the router of 1.0.0.0/8 via 10.78.0.1 is not another host of the stack's network 10.77.0.2/24",
        ),
        (
            "[[route]]\nto = \"2001:db8::/32\"\nvia = \"2001:db8::1\"",
            "mtcp.toml:1: route: 2001:db8::1 is not another host of the stack's network fd77::2/64",
        ),
        (
            "address6 = \"auto\"\n[[route]]\nto = \"2001:db8::/32\"\nvia = \"fd77::1\"",
            "mtcp.toml:2: route: fd77::1 is not a link-local address, and no other is known",
        ),
        (
            "address6 = \"off\"\n[[route]]\nto = \"2001:db8::/32\"",
            "mtcp.toml:2: route: the stack has no IPv6 (address6 is off)",
        ),
        (
            "address6 = \"off\"\n[[neighbor]]\nip = \"fe80::1\"\nmac = \"02:00:00:00:00:01\"",
            "mtcp.toml:2: neighbor: the stack has no IPv6 (address6 is off)",
        ),
        (
            "mtu = 600\n[[route]]\nto = \"2001:db8::/32\"",
            "mtcp.toml:2: route: mtu is 600, and IPv6 needs packets of 1280 bytes",
        ),
        (
            "[tcp]\nsend_buffer = \"8M\"\nsend_buffer_max = \"4M\"",
            "mtcp.toml:2: tcp.send_buffer: 8M is more than tcp.send_buffer_max, which is 4M",
        ),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut loader = Loader::new();
    let missing = loader.toml_file(Path::new("/no/such/file"));
    let message = missing.unwrap_err().to_string();
    assert!(
        message.starts_with("/no/such/file: cannot read: "),
        "{message}"
    );
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0xff, 0xfe, 0, 1]).unwrap();
    assert!(Loader::new().toml_file(file.path()).is_err());
}
