//! What models of the algorithms say of the rate at a loss probability, in segments a round trip.

/// NewReno without timeouts (Mathis et al. 1997): the square root of 3/2 over the loss probability.
pub fn mathis(p: f64) -> f64 {
    (1.5 / p).sqrt()
}

/// NewReno with timeouts (Padhye et al. 1998), each segment acknowledged. Times are in seconds.
pub fn padhye(p: f64, rtt: f64, rto: f64) -> f64 {
    let avoidance = rtt * (2.0 * p / 3.0).sqrt();
    let timeouts = rto * (3.0 * (3.0 * p / 8.0).sqrt()).min(1.0) * p * (1.0 + 32.0 * p * p);
    rtt / (avoidance + timeouts)
}

/// CUBIC (RFC 9438 section 5.1, C = 0.4 and beta = 0.7), but never less than NewReno (section 4.3).
pub fn cubic(p: f64, rtt: f64) -> f64 {
    let cubic = (0.4 * 3.7 / 1.2f64).powf(0.25) * (rtt / p).powf(0.75);
    cubic.max(mathis(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formulas_give_the_published_values() {
        // RFC 9438 table 2: a round trip of 100 ms.
        assert!((mathis(1e-2) - 12.2).abs() < 0.1);
        assert!((cubic(1e-4, 0.1) - 187.0).abs() < 3.0);
        assert!(padhye(0.05, 0.1, 0.3) < mathis(0.05));
    }
}
