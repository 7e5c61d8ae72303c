//! The command line, and the settings that it and its surroundings come to.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Arg, CommandFactory, FromArgMatches, Parser};
use config::{KEYS, Key, Loaded, Loader, Origin, SYSTEM_FILE, Trace, VARIABLES};

use crate::error::Error;

/// The option that stands for both settings of the trace.
const TRACE: &str = "trace";

/// Runs an unmodified program on a TCP/IP stack in user space.
///
/// mtcp-run starts the stack on a packet device of its own, then the program with a library that
/// takes its socket calls to the stack. It stays until the last process of the program is gone, and
/// returns the program's exit status.
///
/// `mtcp-run devices` lists the network cards that the stack can drive itself, and the commands that
/// hand one over to it. (A program called devices is run by its path.)
#[derive(Parser, Debug)]
#[command(
    name = "mtcp-run",
    version,
    override_usage = "mtcp-run [OPTIONS] [--] PROGRAM [ARGUMENTS]...\n       mtcp-run --check [OPTIONS]\n       mtcp-run devices"
)]
pub struct Cli {
    /// Shows the settings in force and where each came from, checks what the machine offers, and
    /// runs nothing
    #[arg(long)]
    pub check: bool,

    /// Works without privileges, in a user and network namespace of its own, where the kernel
    /// allows it and /dev/net/tun can be opened
    #[arg(long)]
    pub rootless: bool,

    /// Runs the program on the kernel's stack, with the same cores, signals and exit status but no
    /// stack and no preload library: for comparisons
    #[arg(long)]
    pub kernel: bool,

    /// The preload library, where it does not stand beside mtcp-run or in ../lib/mtcp
    /// [MTCP_PRELOAD]
    #[arg(long, value_name = "FILE")]
    pub preload: Option<PathBuf>,

    /// TOML file to read; without it, /etc/mtcp.toml if it exists [MTCP_CONFIG]
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,

    /// mTCP's own mtcp.conf to read, with config/route.conf and config/arp.conf beside it
    /// [MTCP_CONF]
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    mtcp_conf: Option<PathBuf>,

    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        trailing_var_arg = true,
        required_unless_present = "check"
    )]
    pub command: Vec<OsString>,

    /// Options of the settings' own names, with their values.
    #[arg(skip)]
    settings: Vec<(&'static Key, String)>,

    /// `--trace FILE`, which stands for two settings.
    #[arg(skip)]
    trace: Option<String>,
}

impl Cli {
    /// Reads a command line.
    ///
    /// # Errors
    /// What clap has to say, which may be the help text.
    pub fn parse_from(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Cli, clap::Error> {
        let matches = command().try_get_matches_from(arguments)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.settings = KEYS
            .iter()
            .filter(|key| has_option(key))
            .filter_map(|key| Some((key, matches.get_one::<String>(key.name)?.clone())))
            .collect();
        cli.trace = matches.get_one::<String>(TRACE).cloned();
        Ok(cli)
    }

    /// The program's name as given; empty if none was.
    pub fn name(&self) -> &OsStr {
        self.command
            .first()
            .map_or("".as_ref(), OsString::as_os_str)
    }

    /// Whether it asks for a list of cards instead of a program.
    pub fn lists_devices(&self) -> bool {
        self.command == ["devices"]
    }

    /// Lays the TOML file, mTCP's files, the environment and the options over the defaults.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn settings(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, Error> {
        let environment: Vec<_> = environment.into_iter().collect();
        let file_of = |option: &Option<PathBuf>, name: &str| {
            option.clone().or_else(|| variable(&environment, name))
        };
        let mut loader = Loader::new();
        match file_of(&self.config, "MTCP_CONFIG") {
            Some(path) => loader.toml_file(&path)?,
            None if Path::new(SYSTEM_FILE).exists() => loader.toml_file(Path::new(SYSTEM_FILE))?,
            None => {}
        }
        if let Some(path) = file_of(&self.mtcp_conf, "MTCP_CONF") {
            loader.mtcp_conf(&path)?;
        }
        loader.environment(environment)?;
        for (key, value) in &self.settings {
            let option = format!("--{}", option_name(key));
            loader.set(key.name, value, Origin::CommandLine(option))?;
        }
        if let Some(file) = &self.trace {
            let origin = || Origin::CommandLine("--trace".to_owned());
            let file = if file == "-" { "none" } else { file };
            loader.set("trace_file", file, origin())?;
            if loader.settings().trace == Trace::default() {
                loader.set("trace", "calls", origin())?;
            }
        }
        Ok(loader.finish()?)
    }

    /// The preload library that was named, by option or variable.
    pub fn preload_library(&self) -> Option<PathBuf> {
        let from_environment = || std::env::var_os("MTCP_PRELOAD").filter(|v| !v.is_empty());
        let option = self.preload.clone();
        option.or_else(|| from_environment().map(PathBuf::from))
    }
}

fn variable(environment: &[(OsString, OsString)], name: &str) -> Option<PathBuf> {
    let mut set = environment.iter().filter(|(_, value)| !value.is_empty());
    set.find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v))
}

fn has_option(key: &Key) -> bool {
    !matches!(key.name, "trace" | "trace_file")
}

fn option_name(key: &Key) -> String {
    key.name.replace(['.', '_'], "-")
}

/// The command line's grammar: the fields above, and one option for each setting.
fn command() -> clap::Command {
    let options = KEYS.iter().filter(|key| has_option(key)).map(|key| {
        let help = key.doc.trim_end_matches('.');
        Arg::new(key.name)
            .long(option_name(key))
            .value_name("VALUE")
            .allow_hyphen_values(true)
            .hide_short_help(key.name.starts_with("tcp."))
            .help_heading(key.section.title())
            .help(format!("{help} [{}]", key.variable()))
            .long_help(format!(
                "{help}. Takes {} [{}]",
                key.expected,
                key.variable()
            ))
    });
    let trace = Arg::new(TRACE)
        .long(TRACE)
        .value_name("FILE")
        .help_heading(config::Section::Log.title())
        .help(
            "Traces the program's calls (or what MTCP_TRACE names: calls, policy) to FILE; - is \
             standard error [MTCP_TRACE, MTCP_TRACE_FILE]",
        );
    Cli::command()
        .args(options)
        .arg(trace)
        .after_help("TCP's options (--tcp-…) are listed by --help, and by man -l docs/mtcp-run.1.")
        .after_long_help(after_help())
}

fn after_help() -> StyledStr {
    let mut text = String::from(
        "Every option with a name in brackets can be set by that environment variable too, and in \
         the TOML file under the option's name with _ for - (those of TCP in the table [tcp]). \
         What stands later in this list wins: defaults, TOML file, mTCP's own files, environment, \
         command line.\n\nEnvironment:\n",
    );
    let variables = VARIABLES.map(|(name, doc)| (name.to_owned(), doc));
    let keys = KEYS.iter().map(|key| (key.variable(), key.doc));
    for (name, doc) in variables.into_iter().chain(keys) {
        let brief = doc.split_once(". ").map_or(doc, |(first, _)| first);
        write_entry(&mut text, &name, brief.trim_end_matches('.'));
    }
    text.push_str(
        "
Signals:
  SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 and SIGWINCH reach the program. A
  second SIGINT or SIGTERM within a second kills what is left of it and ends mtcp-run; two of one kind
  within 0.2 s are one.

Exit status:
  The program's own; 128+N if signal N ended it.
  1    --check could not write what it found
  125  mtcp-run itself failed, or the stack did while the program ran
  126  the program cannot be executed
  127  the program was not found

Examples:
  mtcp-run nginx -c /etc/nginx/nginx.conf
  mtcp-run --engine-cores 1 --app-cores 0 --trace /tmp/calls redis-server
  mtcp-run --device wire:/tmp/w --address 10.78.0.2/24 -- curl -s http://10.78.0.1/
  MTCP_TRACE=policy mtcp-run --rootless python3 -m http.server",
    );
    text.into()
}

/// Columns of the list of variables: where what they do begins, and where it ends.
const ENTRY: std::ops::Range<usize> = 31..79;

/// One variable and what it does, on as many lines as that takes.
fn write_entry(text: &mut String, name: &str, doc: &str) {
    let _ = write!(text, "  {name:<28}");
    let mut column = ENTRY.start - 1;
    for word in doc.split_whitespace() {
        if column + 1 + word.chars().count() > ENTRY.end {
            let _ = write!(text, "\n{:1$}", "", ENTRY.start - 1);
            column = ENTRY.start - 1;
        }
        let _ = write!(text, " {word}");
        column += 1 + word.chars().count();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(arguments: &[&str]) -> Cli {
        Cli::parse_from([&["mtcp-run"], arguments].concat()).unwrap()
    }

    fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Loaded {
        let environment = environment.iter().map(|(n, v)| (n.into(), v.into()));
        cli(arguments).settings(environment).unwrap()
    }

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    /// `UPDATE_DOCS=1 cargo test -p launcher man_page` writes it anew.
    #[test]
    fn the_man_page_is_that_of_the_grammar() {
        const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mtcp-run.1");
        let mut fresh = Vec::new();
        let man = clap_mangen::Man::new(command()).date("");
        man.render(&mut fresh).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, &fresh).unwrap();
        }
        let page = std::fs::read(PAGE).unwrap();
        assert!(
            page == fresh,
            "docs/mtcp-run.1 is out of date: UPDATE_DOCS=1"
        );
    }

    #[test]
    fn what_follows_the_program_belongs_to_it() {
        for arguments in [
            &["--mtu", "1400", "nginx", "--mtu", "9000", "-h"][..],
            &["--mtu", "1400", "--", "nginx", "--mtu", "9000", "-h"],
        ] {
            let parsed = cli(arguments);
            assert_eq!(parsed.command, ["nginx", "--mtu", "9000", "-h"]);
            let loaded = parsed.settings([]).unwrap();
            assert_eq!(loaded.settings.mtu, 1400);
        }
    }

    #[test]
    fn an_unknown_option_is_refused() {
        assert!(Cli::parse_from(["mtcp-run", "--devise", "tap", "nginx"]).is_err());
        assert!(Cli::parse_from(["mtcp-run"]).is_err(), "no program");
    }

    #[test]
    fn every_setting_has_an_option_that_wins_over_its_variable() {
        let defaults = Loader::new().finish().unwrap().settings;
        for key in KEYS.iter().filter(|key| has_option(key)) {
            let option = format!("--{}", option_name(key));
            let value = key.get(&defaults);
            let loaded = settings(&[&option, &value, "true"], &[(&key.variable(), &value)]);
            assert_eq!(loaded.origin(key.name).to_string(), option);
        }
    }

    #[test]
    fn an_option_with_a_wrong_value_is_named() {
        let error = cli(&["--spin-us", "-1", "true"]).settings([]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--spin-us: expected a number of microseconds from 0 to 1000000, found \"-1\""
        );
    }

    #[test]
    fn a_trace_file_alone_traces_calls() {
        let traced = settings(&["--trace", "/tmp/t", "true"], &[]).settings;
        assert!(traced.trace.calls && !traced.trace.policy);
        assert_eq!(traced.trace_file.as_deref(), Some(Path::new("/tmp/t")));

        let chosen = [("MTCP_TRACE", "policy"), ("MTCP_TRACE_FILE", "/tmp/u")];
        let traced = settings(&["--trace", "-", "true"], &chosen).settings;
        assert!(!traced.trace.calls && traced.trace.policy);
        assert_eq!(traced.trace_file, None);
    }

    #[test]
    fn the_short_help_says_where_the_options_of_tcp_are() {
        let help = command().render_help().to_string();
        assert!(help.contains("--tcp-") && help.contains("--help"), "{help}");
    }

    #[test]
    fn what_a_variable_does_stands_in_a_column_of_its_own() {
        let mut text = String::new();
        write_entry(&mut text, "MTCP_X", "word ".repeat(20).trim());
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("  MTCP_X") && lines.len() == 3,
            "{text}"
        );
        for line in lines {
            assert!(
                line[ENTRY.start..].starts_with("word") && line.len() <= ENTRY.end,
                "{text}"
            );
        }
    }

    #[test]
    fn the_help_names_every_variable() {
        let help = command().render_long_help().to_string();
        let keys = KEYS.iter().map(Key::variable);
        for variable in keys.chain(VARIABLES.map(|(name, _)| name.to_owned())) {
            assert!(help.contains(&variable), "{variable}");
        }
    }
}
