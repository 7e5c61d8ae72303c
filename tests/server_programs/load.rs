//! Requests that go on while something happens to the server.

use testbed::{LIMIT, Program, Testbed};

/// ApacheBench, with a connection for each request.
pub struct Load {
    ab: Program,
    requests: u32,
}

impl Load {
    /// Starts `requests` requests, 16 at a time.
    pub fn start(bed: &Testbed, url: &str, requests: u32) -> Load {
        let count = requests.to_string();
        // -r would hide a connection that was reset; without it ab ends with the error.
        let arguments = ["-c", "16", "-n", &count, url];
        Load {
            ab: bed.client.start("ab", &arguments),
            requests,
        }
    }

    /// Does `work` three times, each after another quarter of the requests, then waits for the end.
    pub fn disturbed_by(mut self, mut work: impl FnMut()) {
        for quarter in 1..4 {
            let done = self.requests * quarter / 4;
            self.ab.wait_until("has come that far", LIMIT, |ab| {
                completed(&ab.stderr()) >= done
            });
            work();
        }
        self.finish();
    }

    /// Waits for the end. No request may have failed.
    pub fn finish(self) {
        let output = self.ab.finish(LIMIT).expect_success("ab");
        let value = |name: &str| {
            let line = output.stdout.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
        };
        let done = value("Complete requests:");
        assert_eq!(done, Some(self.requests), "{output}");
        assert_eq!(value("Failed requests:"), Some(0), "{output}");
        assert_eq!(value("Non-2xx responses:"), None, "{output}");
    }
}

/// The last that ab has said of its progress; it speaks up ten times.
fn completed(progress: &str) -> u32 {
    let lines = progress.lines().rev();
    let mut counts = lines.filter_map(|line| line.strip_prefix("Completed ")?.split(' ').next());
    counts
        .next()
        .map_or(0, |count| count.parse().expect("a number"))
}
