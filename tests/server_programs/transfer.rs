//! Files carried by programs that start others for it, or encrypt: sshd and scp, git over HTTP,
//! curl and h2load with TLS.

use std::fs::{self, File};
use std::path::Path;

use testbed::{Testbed, data};

use crate::service::{Service, write};

crate::wherever_the_stack_is!(
    scp_carries_a_hundred_megabytes_to_sshd_and_back,
    git_pushes_and_clones_over_http,
    curl_fetches_over_tls,
    h2load_multiplexes_over_tls,
);

fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's paths are UTF-8")
}

fn digest(path: &Path) -> (u64, String) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    data::digest(file).expect("a file can be read")
}

/// A key without a passphrase, and its public half.
fn key(bed: &Testbed, name: &str) -> String {
    let path = bed.path(name).display().to_string();
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-f", &path];
    let output = std::process::Command::new("ssh-keygen")
        .args(arguments)
        .output();
    assert!(output.expect("ssh-keygen").status.success());
    path
}

fn sshd(bed: &Testbed) -> Service<'_> {
    // Where Debian's sshd confines the process that talks to strangers.
    fs::create_dir_all("/run/sshd").expect("sshd's empty directory");
    let host_key = key(bed, "host_key");
    let authorized = format!("{}.pub", key(bed, "client_key"));
    let configuration = format!(
        "Port 2222
HostKey {host_key}
PidFile none
AuthorizedKeysFile {authorized}
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"
    );
    let file = write(bed, "sshd.conf", &configuration);
    Service::start(bed, &["/usr/sbin/sshd", "-D", "-e", "-f", &file], 2222)
}

fn scp_carries_a_hundred_megabytes_to_sshd_and_back(bed: &Testbed) {
    const SIZE: u64 = 100_000_000;
    let sshd = sshd(bed);
    let identity = bed.path("client_key").display().to_string();
    let common = [
        "-F",
        "none",
        "-i",
        &identity,
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ];
    let login = format!("root@{}", bed.address);
    let remote = ["-p", "2222", &login, "echo hello; exit 3"];
    let hello = bed.client.run("ssh", &[&common[..], &remote].concat());
    assert_eq!(
        (hello.stdout.as_str(), hello.code()),
        ("hello\n", 3),
        "{hello}"
    );

    let [here, there, back] = ["here", "there", "back"].map(|name| bed.path(name));
    let sent = data::write_noise(&here, SIZE, 7).expect("a file");
    let at_the_server = format!("{login}:{}", there.display());
    for (from, to) in [
        (text(&here), at_the_server.as_str()),
        (&at_the_server, text(&back)),
    ] {
        let copy = [&["-P", "2222"], &common[..], &[from, to]].concat();
        bed.client.run("scp", &copy).expect_success("scp");
    }
    assert_eq!(digest(&there), (SIZE, sent.clone()));
    assert_eq!(digest(&back), (SIZE, sent));
    sshd.end(libc::SIGTERM);
}

/// lighttpd runs git's own CGI program, which runs others.
fn git_pushes_and_clones_over_http(bed: &Testbed) {
    let projects = bed.path("projects");
    let configuration = format!(
        "server.modules = (\"mod_alias\", \"mod_setenv\", \"mod_cgi\")
server.document-root = \"{0}\"
server.bind = \"0.0.0.0\"
server.port = 8000
alias.url = (\"/git\" => \"/usr/lib/git-core/git-http-backend\")
setenv.set-environment = (\"GIT_PROJECT_ROOT\" => \"{0}\", \"GIT_HTTP_EXPORT_ALL\" => \"1\")
$HTTP[\"url\"] =~ \"^/git\" {{ cgi.assign = (\"\" => \"\") }}
",
        projects.display()
    );
    let [work, copy] = ["work", "copy"].map(|name| bed.path(name));
    let git = |directory: &Path, arguments: &[&str]| {
        let who = [
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@localhost",
            "-C",
            text(directory),
        ];
        let output = bed.client.run("git", &[&who[..], arguments].concat());
        output.expect_success("git").stdout
    };
    let here = bed.path("");
    git(&here, &["init", "-q", "--bare", "projects/project.git"]);
    git(
        &projects.join("project.git"),
        &["config", "http.receivepack", "true"],
    );
    git(&here, &["init", "-q", "work"]);
    for n in 0..20 {
        data::write_noise(&work.join(format!("file-{n}")), 300_000, n).expect("a file");
    }
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "Files"]);

    let file = write(bed, "lighttpd.conf", &configuration);
    let server = Service::start(bed, &["lighttpd", "-D", "-f", &file], 8000);
    let url = bed.url(8000, "git/project.git");
    git(&work, &["push", "-q", &url, "HEAD:refs/heads/main"]);
    git(&here, &["clone", "-q", "-b", "main", &url, "copy"]);
    git(&copy, &["fsck", "--full"]);
    assert_eq!(
        git(&copy, &["rev-parse", "HEAD"]),
        git(&work, &["rev-parse", "HEAD"])
    );
    server.end(libc::SIGTERM);
}

/// nginx with two workers that speaks HTTP/2 and 1.1 over TLS, and the certificate to trust.
fn nginx_with_tls(bed: &Testbed) -> (Service<'_>, String) {
    let [key, certificate] = ["key.pem", "certificate.pem"].map(|name| bed.path(name));
    let name = format!("subjectAltName=IP:{}", bed.address);
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=test",
        "-addext",
        &name,
        "-days",
        "2",
        "-keyout",
        text(&key),
        "-out",
        text(&certificate),
    ];
    let output = std::process::Command::new("openssl")
        .args(arguments)
        .output();
    assert!(output.expect("openssl").status.success());
    let root = bed.path("site");
    fs::create_dir(&root).expect("a directory for the site");
    let tls = format!(
        "ssl_certificate {};\n        ssl_certificate_key {};\n        listen 443 ssl http2",
        certificate.display(),
        key.display()
    );
    let configuration = testbed::servers::nginx_configuration(&bed.path(""), &root, 443)
        .replace("master_process off;", "worker_processes 2;")
        .replace("listen 443", &tls);
    let file = write(bed, "nginx.conf", &configuration);
    let server = Service::start(bed, &["nginx", "-e", "stderr", "-c", &file], 443);
    (server, text(&certificate).to_owned())
}

fn curl_fetches_over_tls(bed: &Testbed) {
    const SIZE: u64 = 16 << 20;
    let (server, certificate) = nginx_with_tls(bed);
    let (file, copy) = (bed.path("site/file"), bed.path("copy"));
    let digest_sent = data::write_noise(&file, SIZE, 3).expect("a file");
    let url = bed.url(443, "file").replace("http://", "https://");
    for version in ["--http1.1", "--http2"] {
        let arguments = [
            "-sS",
            "--fail",
            version,
            "--cacert",
            &certificate,
            "-o",
            text(&copy),
            &url,
        ];
        bed.client.run("curl", &arguments).expect_success("curl");
        assert_eq!(digest(&copy), (SIZE, digest_sent.clone()), "{version}");
        fs::remove_file(&copy).expect("it was there");
    }
    server.end(libc::SIGQUIT);
}

fn h2load_multiplexes_over_tls(bed: &Testbed) {
    let (server, _) = nginx_with_tls(bed);
    data::write_noise(&bed.path("site/page"), 20_000, 3).expect("a page");
    let url = bed.url(443, "page").replace("http://", "https://");
    let arguments = ["-n", "4000", "-c", "20", "-m", "10", &url];
    let output = bed
        .client
        .run("h2load", &arguments)
        .expect_success("h2load");
    let counts =
        "4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(output.stdout.contains(counts), "{output}");
    server.end(libc::SIGQUIT);
}
