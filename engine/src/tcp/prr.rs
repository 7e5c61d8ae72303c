//! Proportional rate reduction (RFC 6937, with the choice between its bounds of RFC 6937bis): in fast
//! recovery the window falls to `ssthresh` in step with what is delivered.

use super::acknowledge::clamp_u32;

/// State of one recovery, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Prr {
    /// The window when recovery began.
    prior: u32,
    delivered: u32,
    sent: u32,
}

/// What one ACK means for the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Bytes newly delivered.
    pub(super) delivered: u64,
    /// SND.UNA advanced and nothing was found lost.
    pub(super) safe: bool,
    /// Bytes in flight.
    pub(super) pipe: u64,
}

impl Prr {
    pub(super) const fn new() -> Self {
        Prr {
            prior: 0,
            delivered: 0,
            sent: 0,
        }
    }

    /// Recovery begins from a window of `prior` bytes.
    pub(super) fn begin(&mut self, prior: u32) {
        *self = Prr {
            prior,
            ..Prr::new()
        };
    }

    /// Something was sent, new or again.
    pub(super) fn on_sent(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(clamp_u32(bytes));
    }

    /// The window after an ACK. Counts in whole segments, as the one who fills it does.
    pub(super) fn window(&mut self, ack: Progress, ssthresh: u32, mss: u32) -> u32 {
        let mss = u64::from(mss.max(1));
        let target = u64::from(ssthresh) / mss * mss;
        let whole = |bytes: u64| bytes.div_ceil(mss) * mss;
        let (pipe, newly) = (whole(ack.pipe), whole(ack.delivered));
        self.delivered = self.delivered.saturating_add(clamp_u32(newly));
        let (delivered, sent) = (u64::from(self.delivered), u64::from(self.sent));
        let allowed = if pipe > target {
            // Both fit 32 bits.
            let share = (target * delivered).div_ceil(self.prior.max(1).into());
            whole(share).saturating_sub(sent)
        } else {
            // Below the target: as much as left the network, and in slow start while all goes well.
            let conserve = delivered.saturating_sub(sent).max(newly);
            let grow = if ack.safe { mss } else { 0 };
            (conserve + grow).min(target - pipe)
        };
        // The first repetition does not wait.
        let allowed = if sent == 0 { allowed.max(mss) } else { allowed };
        clamp_u32(pipe + whole(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn segments(prr: &mut Prr, delivered: u64, pipe: u64, safe: bool, ssthresh: u32) -> u64 {
        let ack = Progress {
            delivered: delivered * 1000,
            safe,
            pipe: pipe * 1000,
        };
        let window = prr.window(ack, ssthresh * MSS, MSS);
        u64::from(window / MSS) - pipe
    }

    #[test]
    fn the_window_falls_in_proportion_to_what_is_delivered() {
        let mut prr = Prr::new();
        prr.begin(20 * MSS);
        // 20 in flight, 1 lost; 3 delivered before recovery began counts as the first ACK.
        let mut pipe = 19 - 3;
        let mut sent = Vec::new();
        let mut delivered = 3;
        while pipe > 10 {
            let allowed = segments(&mut prr, delivered, pipe, false, 10);
            prr.on_sent(allowed * 1000);
            sent.push(allowed);
            pipe = pipe + allowed - 1;
            delivered = 1;
        }
        assert_eq!(sent[..7], [2, 0, 1, 0, 1, 0, 1], "every second one");
    }

    #[test]
    fn the_first_repetition_goes_at_once() {
        let mut prr = Prr::new();
        prr.begin(100 * MSS);
        assert_eq!(segments(&mut prr, 0, 99, false, 10), 1);
    }

    #[test]
    fn below_the_target_it_conserves_unless_progress_is_safe() {
        for (safe, expected) in [(false, 1), (true, 2)] {
            let mut prr = Prr::new();
            prr.begin(20 * MSS);
            prr.on_sent(5000);
            prr.delivered = 5000;
            assert_eq!(segments(&mut prr, 1, 4, safe, 10), expected);
        }
    }

    #[test]
    fn it_never_leads_above_the_target() {
        let mut prr = Prr::new();
        prr.begin(20 * MSS);
        prr.on_sent(1000);
        assert_eq!(segments(&mut prr, 15, 8, true, 10), 2);
    }
}
