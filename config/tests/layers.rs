//! The environment, single keys of the command line, and which source wins.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use config::{Error, KEYS, Loaded, Loader, Origin};

fn environment(variables: &[(&str, &str)]) -> Result<Loaded, Error> {
    let mut loader = Loader::new();
    loader.environment(os(variables))?;
    loader.finish()
}

fn os(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let pairs = variables.iter();
    pairs.map(|(n, v)| (n.into(), v.into())).collect()
}

#[test]
fn every_key_has_its_variable() {
    let defaults = Loader::new().finish().unwrap().settings;
    for key in KEYS {
        let variable = key.variable();
        let loaded = environment(&[(&variable, &key.get(&defaults))]).unwrap();
        assert_eq!(loaded.warnings, [], "{variable}");
        assert_eq!(
            loaded.origin(key.name),
            Origin::Environment(variable),
            "{}",
            key.name
        );
    }
}

#[test]
fn a_variable_sets_its_key() {
    let loaded = environment(&[
        ("MTCP_ENGINE_CORES", "1,3-5"),
        ("MTCP_TCP_TIME_WAIT", "1s"),
        ("MTCP_GATEWAY", "10.77.0.1"),
    ])
    .unwrap();
    assert_eq!(loaded.settings.engine_cores, [1, 3, 4, 5]);
    assert_eq!(loaded.settings.tcp.time_wait.as_secs(), 1);
    assert_eq!(loaded.settings.gateway, Some([10, 77, 0, 1].into()));
}

#[test]
fn a_variable_that_is_empty_counts_as_not_set() {
    let loaded = environment(&[("MTCP_MTU", "")]).unwrap();
    assert_eq!(loaded.origin("mtu"), Origin::Default);
}

#[test]
fn a_wrong_variable_is_one_line() {
    let message = environment(&[("MTCP_MTU", "x\ny")])
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        r#"MTCP_MTU: expected a number of bytes from 576 to 65521, found "x\ny""#
    );
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    let junk = OsString::from_vec(vec![0xff, 0xfe]);
    let variables = vec![(OsString::from("MTCP_LOG"), junk)];
    let error = Loader::new().environment(variables).unwrap_err();
    assert!(error.to_string().contains("expected text in UTF-8"));
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let loaded = environment(&[("MTCP_DEVISE", "tap"), ("MTCP_ZZZZZZ", "1")]).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "unknown environment variable MTCP_DEVISE is ignored; did you mean MTCP_DEVICE?",
            "unknown environment variable MTCP_ZZZZZZ is ignored",
        ]
    );
}

#[test]
fn other_variables_are_nobodys_business() {
    let loaded = environment(&[
        ("PATH", "/bin"),
        ("MTCP_STACK_SEGMENT", "7"),
        ("MTCP_CONFIG", "/etc/x"),
        ("MTCP_PRELOAD", "/lib/x"),
    ])
    .unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_later_source_wins() {
    let mut loader = Loader::new();
    let file = "mtu = 1000\nqueues = 2\nlog = \"info\"\nloopback = \"stack\"\nworkers = 3";
    loader.toml_text(Path::new("f.toml"), file).unwrap();
    loader
        .environment(os(&[("MTCP_MTU", "2000"), ("MTCP_QUEUES", "3")]))
        .unwrap();
    let option = Origin::CommandLine("--mtu".to_owned());
    loader.set("mtu", "3000", option.clone()).unwrap();
    let loaded = loader.finish().unwrap();
    assert_eq!(loaded.settings.mtu, 3000);
    assert_eq!(loaded.settings.queues, Some(3));
    assert_eq!(loaded.settings.log, "info");
    assert_eq!(loaded.origin("mtu"), option);
    assert_eq!(loaded.origin("queues").to_string(), "MTCP_QUEUES");
    assert_eq!(loaded.origin("loopback").to_string(), "f.toml:4");
    assert_eq!(loaded.origin("memory").to_string(), "default");
}

#[test]
fn a_later_source_can_take_a_value_away() {
    let mut loader = Loader::new();
    let file = "gateway = \"10.77.0.1\"\npcap = \"/tmp/x\"";
    loader.toml_text(Path::new("f.toml"), file).unwrap();
    loader
        .environment(os(&[("MTCP_GATEWAY", "none"), ("MTCP_PCAP", "none")]))
        .unwrap();
    let settings = loader.finish().unwrap().settings;
    assert_eq!((settings.gateway, settings.pcap), (None, None));
}

#[test]
fn an_unknown_key_on_the_command_line_is_an_error() {
    let origin = Origin::CommandLine("--set".to_owned());
    let error = Loader::new().set("tcp.rtomin", "1s", origin).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"--set: unknown key "tcp.rtomin"; did you mean tcp.rto_min?"#
    );
}

#[test]
fn the_report_shows_each_value_and_where_it_came_from() {
    let mut loader = Loader::new();
    let file = "mtu = 9000\n[[rule]]\nport = 22\nto = \"kernel\"";
    loader.toml_text(Path::new("f.toml"), file).unwrap();
    let report = loader.finish().unwrap().report();
    let line = |name: &str| {
        let found = report.lines().find(|l| l.starts_with(name));
        let words = found.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        words.unwrap_or_else(|| panic!("{name} is missing from\n{report}"))
    };
    assert_eq!(line("mtu "), "mtu = 9000 # f.toml:1");
    assert_eq!(line("log "), "log = warn # default");
    assert_eq!(
        line("rule 1 "),
        "rule 1 = * any * port 22 to kernel # f.toml:2"
    );
    for key in KEYS {
        line(&format!("{} ", key.name));
    }
}

#[test]
fn the_report_shows_the_ipv6_address_that_is_derived() {
    let shown = |variables: &[(&str, &str)]| {
        let report = environment(variables).unwrap().report();
        let line = report.lines().find(|l| l.starts_with("address6 ")).unwrap();
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    assert_eq!(shown(&[]), "fd77::2/64");
    assert_eq!(shown(&[("MTCP_ADDRESS", "10.78.0.2/24")]), "fd77:0:3::2/64");
    assert_eq!(shown(&[("MTCP_ADDRESS6", "auto")]), "auto");
}

#[test]
fn an_mtu_too_small_for_ipv6_is_said_to_be_the_reason() {
    let told = |variables: &[(&str, &str)]| {
        let loaded = environment(variables).unwrap();
        let report = loaded.report();
        let line = report.lines().find(|l| l.starts_with("address6 ")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        (words[2..].join(" "), warnings)
    };
    let narrow = ("MTCP_MTU", "1279");
    let (shown, warnings) = told(&[narrow]);
    assert_eq!(shown, "off # mtu is below 1280");
    let warning = "MTCP_MTU: below 1280 the stack has no IPv6 (address6 = \"off\" says that it \
                   need not)";
    assert_eq!(warnings, [warning]);
    let (shown, warnings) = told(&[narrow, ("MTCP_ADDRESS6", "off")]);
    assert_eq!(shown, "off # MTCP_ADDRESS6");
    assert_eq!(warnings, [""; 0]);
    let error = environment(&[narrow, ("MTCP_GATEWAY6", "fd77::1")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MTCP_GATEWAY6: mtu is 1279, and IPv6 needs packets of 1280 bytes"
    );
}

#[test]
fn an_ipv6_address_needs_packets_that_ipv6_fits() {
    let with_mtu =
        |mtu| environment(&[("MTCP_MTU", mtu), ("MTCP_ADDRESS6", "fd12::2/64")]).map(drop);
    let error = with_mtu("1279").unwrap_err();
    assert_eq!(
        error.to_string(),
        "MTCP_ADDRESS6: mtu is 1279, and IPv6 needs packets of 1280 bytes"
    );
    assert!(with_mtu("1280").is_ok());
}

#[test]
fn the_address_of_all_routers_is_refused() {
    let error = environment(&[("MTCP_ADDRESS6", "fd12::/64")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MTCP_ADDRESS6: fd12::/64 is the address of all routers of its network"
    );
}
