//! How fast a client reads.
//!
//! A page of history is one frame, and nothing else can be sent to the client before it has read all of it. So a client that has proved
//! slow is given shorter pages, each of which it reads within half a heartbeat.

use starling_hub::PAGE_BYTES_MAX;

/// The shortest page, bytes: about as much as the longest message has.
const PAGE_BYTES_MIN: usize = 64 * 1024;
/// How long frames must have waited before a client counts as slow, seconds. A client whose machine stood still for a moment is not slow.
const SLOW_SECONDS: u32 = 4;

/// A client's measured speed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    /// How long frames have waited for it without a break, seconds.
    waited_s: u32,
    /// Number of bytes that it read in this time, or since the last second in which nothing waited. A client that reads more than fits is
    /// quick enough.
    taken: u32,
    /// Limit on a page, bytes.
    page_bytes: u32,
}

impl Default for Speed {
    fn default() -> Speed {
        Speed { waited_s: 0, taken: 0, page_bytes: PAGE_BYTES_MAX as u32 }
    }
}

impl Speed {
    /// Records that the client has read this number of bytes.
    pub fn note_read(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Records that a second has passed, and whether frames wait because the client's socket is full. Returns the limit on a page if it has
    /// changed.
    pub fn tick(&mut self, waits: bool, heartbeat_s: u32) -> Option<usize> {
        let page_bytes = if waits {
            self.waited_s = self.waited_s.saturating_add(1);
            if self.waited_s < SLOW_SECONDS {
                return None;
            }
            (self.taken / self.waited_s).saturating_mul(heartbeat_s) / 2
        } else {
            let page_was_quick = self.waited_s < SLOW_SECONDS && self.taken > self.page_bytes / 2;
            (self.waited_s, self.taken) = (0, 0);
            if page_was_quick { self.page_bytes * 2 } else { self.page_bytes }
        };
        let page_bytes = page_bytes.clamp(PAGE_BYTES_MIN as u32, PAGE_BYTES_MAX as u32);
        let before = std::mem::replace(&mut self.page_bytes, page_bytes);
        (before != page_bytes).then_some(page_bytes as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT_S: u32 = 25;

    /// A client that takes so much a second is given pages one after the other, until so many bytes have come; how long the last was.
    fn last_page(speed: &mut Speed, bytes_per_second: usize, bytes: usize) -> usize {
        let mut page = speed.page_bytes as usize;
        let mut left = page;
        for _ in 0..bytes / bytes_per_second {
            let taken = left.min(bytes_per_second);
            speed.note_read(taken as u64);
            left -= taken;
            speed.tick(left > 0, HEARTBEAT_S);
            if left == 0 {
                page = speed.page_bytes as usize;
                left = page;
            }
        }
        page
    }

    #[test]
    fn a_slow_client_is_given_pages_that_take_half_a_heartbeat_and_a_quick_one_whole_ones() {
        let mut speed = Speed::default();
        assert_eq!(last_page(&mut speed, 12_000, 4 << 20), 150_000);
        assert_eq!(last_page(&mut speed, 24_000, 4 << 20), 300_000);
        assert_eq!(last_page(&mut speed, 100, 1 << 20), PAGE_BYTES_MIN);
        assert_eq!(last_page(&mut speed, 10 << 20, 100 << 20), PAGE_BYTES_MAX, "it has become quick");
    }

    #[test]
    fn who_stood_still_for_a_moment_is_not_slow() {
        let mut speed = Speed::default();
        for waits in [true, true, true, false, true, true, true, false] {
            assert_eq!(speed.tick(waits, HEARTBEAT_S), None);
        }
        assert_eq!(speed.page_bytes as usize, PAGE_BYTES_MAX);
    }

    #[test]
    fn small_talk_says_nothing_about_a_slow_client() {
        let mut speed = Speed::default();
        last_page(&mut speed, 12_000, 4 << 20);
        for _ in 0..1_000 {
            speed.note_read(100);
            assert_eq!(speed.tick(false, HEARTBEAT_S), None);
        }
    }
}
