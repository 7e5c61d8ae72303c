//! MSI-X (§7.3 of the datasheet): a vector to each receive queue, masked but while its worker
//! sleeps, and moderated. Transmission needs none: what was sent is looked at when room is wanted.

use std::time::Duration;

use super::access::Bus;
use super::regs::*;

/// What the interval of moderation counts in, at 10 gigabits a second.
const UNIT: Duration = Duration::from_micros(2);

/// Sets up `queues` vectors, all masked, that come at least `moderation` apart. Coalescing needs the
/// interval, too: it ends when the interval does.
pub fn set_up<B: Bus>(bus: &B, queues: usize, moderation: Duration) {
    bus.write(GPIE, GPIE_MSIX | GPIE_OCD | GPIE_EIAME | GPIE_PBA);
    // An interrupt clears its cause and masks itself.
    bus.write(EIAC, 0xffff);
    for register in EIAM_EX.all() {
        bus.write(register, !0);
    }
    let interval = (moderation.as_micros() / UNIT.as_micros()).min(0x1ff) as u32;
    for queue in 0..queues {
        bus.write(eitr(queue), interval << 3 & EITR_INTERVAL | EITR_CNT_WDIS);
    }
    for pair in 0..queues.div_ceil(2) {
        let even = (2 * pair) as u32 | IVAR_VALID;
        let odd = match 2 * pair + 1 < queues {
            true => (2 * pair + 1) as u32 | IVAR_VALID,
            false => 0,
        };
        // Four entries of a byte: receive and transmit of an even queue, then of the odd one.
        bus.write(IVAR.at(pair), even | odd << 16);
    }
}

/// Lets queue `queue` interrupt. What has come meanwhile does so at once.
pub fn unmask<B: Bus>(bus: &B, queue: usize) {
    bus.write(EIMS_EX.at(queue / 32), 1 << (queue % 32));
}

/// Keeps queue `queue` from interrupting.
pub fn mask<B: Bus>(bus: &B, queue: usize) {
    bus.write(EIMC_EX.at(queue / 32), 1 << (queue % 32));
}
