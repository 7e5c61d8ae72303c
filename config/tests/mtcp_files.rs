//! mTCP's own mtcp.conf, route.conf and arp.conf, as they are.

use std::fs;
use std::path::Path;

use config::{Error, Loaded, Loader, Warning};
use tempfile::TempDir;

/// A folder with files of mTCP's.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Files(dir)
    }

    fn load(&self, name: &str) -> Result<Loaded, Error> {
        let mut loader = Loader::new();
        loader.mtcp_conf(&self.0.path().join(name))?;
        loader.finish()
    }
}

fn conf(text: &str) -> Result<Loaded, Error> {
    Files::new(&[("mtcp.conf", text)]).load("mtcp.conf")
}

/// The error's text without the folder of the file.
fn error(files: &[(&str, &str)]) -> String {
    let files = Files::new(files);
    let message = files.load("mtcp.conf").unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message:?} is not one line");
    let folder = format!("{}/", files.0.path().display());
    message.replace(&folder, "")
}

/// A server's file with every kind of line that mTCP's own examples have.
const SERVER: &str = "\
########## server ##########

# I/O module
#io = psio
io = dpdk

num_cores = 2
num_mem_ch = 4   # DPDK only
port = dpdk0 dpdk1
max_concurrency = 20000
max_num_buffers = 10000
\trcvbuf = 16384
sndbuf=32768
tcp_timeout = -1
tcp_timewait = 5
stat_print = dpdk0
stat_print = dpdk1
";

#[test]
fn a_servers_file_is_read_as_it_is() {
    let loaded = conf(SERVER).unwrap();
    let s = &loaded.settings;
    assert_eq!(s.engine_cores, [0, 1]);
    assert_eq!(s.max_sockets, 40_000, "mTCP counts per core");
    assert_eq!(s.tcp.recv_buffer, 16_384);
    assert_eq!(s.tcp.send_buffer, 32_768);
    assert_eq!(s.tcp.time_wait.as_secs(), 5);
    let origin = loaded.origin("tcp.send_buffer").to_string();
    assert!(origin.ends_with("mtcp.conf:13"), "{origin}");
}

#[test]
fn keys_without_a_meaning_are_accepted_with_a_note() {
    let loaded = conf(SERVER).unwrap();
    let noted: Vec<&str> = loaded
        .warnings
        .iter()
        .map(|warning| match warning {
            Warning::Note { key, .. } => key.as_str(),
            other => panic!("{other} is not a note"),
        })
        .collect();
    assert_eq!(
        noted,
        [
            "io",
            "num_mem_ch",
            "port",
            "max_num_buffers",
            "tcp_timeout",
            "stat_print",
            "stat_print"
        ]
    );
    let first = loaded.warnings[0].to_string();
    assert!(
        first.ends_with(
            "mtcp.conf:5: io: has no meaning here: the packet device is chosen by `device`"
        ),
        "{first}"
    );
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_name() {
    let loaded = conf("rcvbuff = 8192\n").unwrap();
    let [warning] = &loaded.warnings[..] else {
        panic!("one warning, not {:?}", loaded.warnings);
    };
    let text = warning.to_string();
    assert!(
        text.ends_with(r#"mtcp.conf:1: unknown key "rcvbuff" is ignored; did you mean rcvbuf?"#),
        "{text}"
    );
}

#[test]
fn one_buffer_size_stands_for_both() {
    let s = conf("rcvbuf = 8192").unwrap().settings;
    assert_eq!((s.tcp.recv_buffer, s.tcp.send_buffer), (8192, 8192));
    let s = conf("sndbuf = 4096").unwrap().settings;
    assert_eq!((s.tcp.recv_buffer, s.tcp.send_buffer), (4096, 4096));
}

#[test]
fn the_maximum_follows_a_large_buffer() {
    let s = conf("rcvbuf = 16777216").unwrap().settings;
    assert_eq!(s.tcp.recv_buffer, 16 << 20);
    assert_eq!(s.recv_buffer_max(), 16 << 20);
    assert_eq!(s.send_buffer_max(), 16 << 20);
}

#[test]
fn a_tiny_buffer_is_raised_to_what_works() {
    let s = conf("rcvbuf = 64").unwrap().settings;
    assert_eq!(s.tcp.recv_buffer, 2048);
}

#[test]
fn the_core_mask_names_cores_and_num_cores_takes_the_first() {
    let s = conf("core_mask = F000000F0").unwrap().settings;
    assert_eq!(s.engine_cores, [4, 5, 6, 7, 32, 33, 34, 35]);
    let s = conf("num_cores = 2\ncore_mask = 0xF0").unwrap().settings;
    assert_eq!(s.engine_cores, [4, 5]);
}

#[test]
fn congestion_control_that_is_missing_is_noted() {
    assert_eq!(conf("cc = reno").unwrap().warnings, []);
    let loaded = conf("cc = vegas").unwrap();
    let text = loaded.warnings[0].to_string();
    assert!(
        text.ends_with(r#"cc: "vegas" is not available; cubic is used"#),
        "{text}"
    );
}

#[test]
fn a_wrong_value_names_file_line_key_and_what_was_expected() {
    for (text, expected) in [
        (
            "io = psio\nnum_cores = 0",
            r#"mtcp.conf:2: num_cores: expected a number of cores from 1 to 8192, found "0""#,
        ),
        (
            "core_mask = xyz",
            r#"mtcp.conf:1: core_mask: expected a mask in hexadecimal, not 0, found "xyz""#,
        ),
        (
            "core_mask = 0",
            r#"mtcp.conf:1: core_mask: expected a mask in hexadecimal, not 0, found "0""#,
        ),
        (
            "rcvbuf = 63",
            r#"mtcp.conf:1: rcvbuf: expected a number of bytes from 64 to 1G, found "63""#,
        ),
        (
            "tcp_timewait = -1",
            r#"mtcp.conf:1: tcp_timewait: expected a number of seconds from 0 to 600, found "-1""#,
        ),
        (
            "max_concurrency = many",
            r#"mtcp.conf:1: max_concurrency: expected a number of connections, found "many""#,
        ),
        (
            "rcvbuf",
            r#"mtcp.conf:1: expected `key = value`, found "rcvbuf""#,
        ),
        ("= 5", r#"mtcp.conf:1: expected `key = value`, found "= 5""#),
    ] {
        assert_eq!(error(&[("mtcp.conf", text)]), expected);
    }
}

const ROUTES: &str = "\
# destination/prefix interface
ROUTES 2
10.0.0.1/24 dpdk0
# between
10.0.1.1/24   dpdk1
";

const NEIGHBOURS: &str = "\
# destination/prefix hardware address
ARP_ENTRY 2
10.0.0.1/32 00:00:00:00:00:01
10.0.1.0/24 00:1B:21:aa:bb:cc # a whole network";

#[test]
fn routes_and_neighbours_are_read_from_the_folder_beside() {
    let files = Files::new(&[
        ("mtcp.conf", "io = psio"),
        ("config/route.conf", ROUTES),
        ("config/arp.conf", NEIGHBOURS),
    ]);
    let loaded = files.load("mtcp.conf").unwrap();
    let s = &loaded.settings;
    let routes: Vec<String> = s.routes.iter().map(ToString::to_string).collect();
    assert_eq!(
        routes,
        ["10.0.0.0/24 on the device", "10.0.1.0/24 on the device"]
    );
    let arp: Vec<String> = s.neighbors.iter().map(ToString::to_string).collect();
    assert_eq!(
        arp,
        [
            "10.0.0.1/32 is at 00:00:00:00:00:01",
            "10.0.1.0/24 is at 00:1b:21:aa:bb:cc"
        ]
    );
    let origin = loaded.origin("route 2").to_string();
    assert!(origin.ends_with("config/route.conf:5"), "{origin}");
}

#[test]
fn routes_and_neighbours_may_lie_beside_the_file_itself() {
    let files = Files::new(&[
        ("config/mtcp.conf", "io = psio"),
        ("config/route.conf", ROUTES),
        ("config/arp.conf", NEIGHBOURS),
    ]);
    let s = files.load("config/mtcp.conf").unwrap().settings;
    assert_eq!((s.routes.len(), s.neighbors.len()), (2, 2));
}

#[test]
fn a_route_beyond_the_count_is_ignored_with_a_note() {
    let files = Files::new(&[
        ("mtcp.conf", ""),
        ("route.conf", "ROUTES 1\n10.0.0.0/24 a\n10.1.0.0/24 b\n"),
    ]);
    let loaded = files.load("mtcp.conf").unwrap();
    assert_eq!(loaded.settings.routes.len(), 1);
    let text = loaded.warnings[0].to_string();
    assert!(
        text.ends_with(
            "route.conf:3: 10.1.0.0/24 b: is ignored: it is beyond the number in ROUTES"
        ),
        "{text}"
    );
}

#[test]
fn fewer_entries_than_counted_are_taken_as_they_are() {
    let files = Files::new(&[
        ("mtcp.conf", ""),
        ("route.conf", "ROUTES 9\n10.0.0.0/24 a\n"),
        ("arp.conf", "ARP_ENTRY 0\n"),
    ]);
    let s = files.load("mtcp.conf").unwrap().settings;
    assert_eq!((s.routes.len(), s.neighbors.len()), (1, 0));
}

#[test]
fn wrong_lines_of_the_tables_name_file_and_line() {
    for (name, text, expected) in [
        (
            "route.conf",
            "ROUTES x",
            r#"route.conf:1: ROUTES: expected a number of entries from 0 to 4096, found "x""#,
        ),
        (
            "route.conf",
            "ROUTES 1\n10.0.0.1/33 a",
            r#"route.conf:2: route: expected `address/prefix interface` such as `10.0.1.0/24 dpdk0`, found "10.0.0.1/33 a""#,
        ),
        (
            "route.conf",
            "ROUTES 1\n10.0.0.1/24",
            r#"route.conf:2: route: expected `address/prefix interface` such as `10.0.1.0/24 dpdk0`, found "10.0.0.1/24""#,
        ),
        (
            "arp.conf",
            "ARP_ENTRY 1\n10.0.0.1/32 00:00:00:00:00",
            r#"arp.conf:2: arp: expected `address/prefix mac` with a unicast MAC, such as `10.0.0.1/32 02:00:00:00:00:01`, found "10.0.0.1/32 00:00:00:00:00""#,
        ),
        (
            "arp.conf",
            "10.0.0.1/32 02:00:00:00:00:01",
            r#"arp.conf:1: expected no more entries than ARP_ENTRY says, found "10.0.0.1/32 02:00:00:00:00:01""#,
        ),
    ] {
        assert_eq!(error(&[("mtcp.conf", ""), (name, text)]), expected);
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = Loader::new().mtcp_conf(Path::new("/no/mtcp.conf"));
    let message = error.unwrap_err().to_string();
    assert!(
        message.starts_with("/no/mtcp.conf: cannot read: "),
        "{message}"
    );
}

#[test]
fn mtcps_files_stand_above_the_toml_file() {
    let files = Files::new(&[("mtcp.conf", "rcvbuf = 8192")]);
    let mut loader = Loader::new();
    let toml = "[tcp]\nrecv_buffer = \"32K\"\nrto_min = \"1s\"";
    loader.toml_text(Path::new("f.toml"), toml).unwrap();
    loader.mtcp_conf(&files.0.path().join("mtcp.conf")).unwrap();
    let s = loader.finish().unwrap().settings;
    assert_eq!(s.tcp.recv_buffer, 8192);
    assert_eq!(s.tcp.rto_min.as_secs(), 1);
}
