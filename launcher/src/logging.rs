//! The log of `mtcp-run` and of the engine within it.

use std::fs::OpenOptions;
use std::sync::Mutex;

use config::Loaded;
use tracing_subscriber::EnvFilter;

use crate::error::Error;

/// Sends the log where the settings want it.
///
/// # Errors
/// If the filter is none, or the file cannot be opened.
pub fn start(loaded: &Loaded) -> Result<(), Error> {
    let settings = &loaded.settings;
    let filter = EnvFilter::try_new(&settings.log).map_err(|_| Error::LogFilter {
        origin: loaded.origin("log"),
        filter: settings.log.clone(),
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match &settings.log_file {
        None => subscriber.with_writer(std::io::stderr).init(),
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|source| Error::Open {
                origin: loaded.origin("log_file"),
                path: path.clone(),
                source,
            })?;
            subscriber.with_writer(Mutex::new(file)).init();
        }
    }
    Ok(())
}
