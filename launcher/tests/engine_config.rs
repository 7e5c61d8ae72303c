//! What the settings make of the engine's configuration.

use config::Loader;
use engine::net::ipv6::Prefix6;
use launcher::stack::engine_config;
use psio::MacAddr;

#[test]
fn routes_and_neighbours_of_both_families_reach_the_engine() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = r#"
        gateway6 = "fd77::1"

        [[route]]
        to = "192.168.0.0/16"
        via = "10.77.0.9"

        [[route]]
        to = "2001:db8::/32"
        via = "fe80::9"

        [[arp]]
        ip = "10.77.0.9"
        mac = "02:00:00:00:00:04"

        [[neighbor]]
        ip = "fe80::9"
        mac = "02:00:00:00:00:06"
    "#;
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let mut loader = Loader::new();
    loader.toml_file(file.path()).unwrap();
    let config = engine_config(&loader.finish().unwrap().settings).unwrap();

    let routes: Vec<_> = config.routes.iter().map(|r| r.prefix.len()).collect();
    assert_eq!(routes, [16]);
    assert_eq!(config.neighbors[0].1, MacAddr([2, 0, 0, 0, 0, 4]));
    let ipv6 = config.ipv6.unwrap();
    let gateways = ipv6.routes.iter().map(|r| (r.prefix, r.gateway.unwrap()));
    let network = |text: &str, len| Prefix6::new(text.parse().unwrap(), len).unwrap();
    assert_eq!(
        gateways.collect::<Vec<_>>(),
        [
            (network("2001:db8::", 32), "fe80::9".parse().unwrap()),
            (Prefix6::ALL, "fd77::1".parse().unwrap()),
        ]
    );
    let station = (network("fe80::9", 128), MacAddr([2, 0, 0, 0, 0, 6]));
    assert_eq!(ipv6.neighbors, [station]);
}
