//! Quantities, written for people.

use std::time::Duration;

/// A time, in the unit that a person reads best.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

/// A number of bytes, in the unit that a person reads best.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// The middle one of several times.
pub fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_easily() {
        assert_eq!(
            (time(Duration::from_micros(1_540)).as_str(), time(Duration::from_secs(90)).as_str()),
            ("1.5 ms", "90.0 s")
        );
        assert_eq!(
            (bytes(512).as_str(), bytes(1 << 29).as_str(), bytes(3 << 30).as_str()),
            ("512 bytes", "512.0 MiB", "3.0 GiB")
        );
        let seconds = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect();
        assert_eq!((median(seconds(&[9, 1, 2])), median(Vec::new())), (Some(Duration::from_secs(2)), None));
    }
}
