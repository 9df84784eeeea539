//! What became of each job of a run.

use parking_lot::Mutex;

/// The most jobs of a run, each of which takes a byte.
const JOBS_MAX: usize = 100_000_000;

/// That the addition of a job was acknowledged.
const ACKNOWLEDGED: u8 = 1;
/// One finish; two bits count up to three.
const FINISHED: u8 = 2;
const FINISHED_MASK: u8 = 6;

/// What became of each job, by its number.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    jobs: Vec<u8>,
    acknowledged: u64,
    finished: u64,
    doubled: u64,
    open: u64,
}

impl Ledger {
    /// Returns the number of a new job; `None` if the run has too many.
    pub fn next(&self) -> Option<usize> {
        let mut state = self.0.lock();
        let number = state.jobs.len();
        (number < JOBS_MAX).then(|| {
            state.jobs.push(0);
            number
        })
    }

    /// Notes that Starling has acknowledged a job.
    pub fn acknowledge(&self, number: usize) {
        let mut state = self.0.lock();
        let Some(job) = state.jobs.get_mut(number) else { return };
        let is_open = *job & (ACKNOWLEDGED | FINISHED_MASK) == 0;
        *job |= ACKNOWLEDGED;
        state.acknowledged += 1;
        state.open += u64::from(is_open);
    }

    /// Notes that Starling has accepted that a job is done. Returns whether it is the first time.
    pub fn finish(&self, number: usize) -> bool {
        let mut state = self.0.lock();
        let Some(job) = state.jobs.get_mut(number) else { return false };
        let before = *job;
        let is_first = before & FINISHED_MASK == 0;
        if before & FINISHED_MASK < FINISHED_MASK {
            *job += FINISHED;
        }
        if is_first {
            state.finished += 1;
            state.open -= u64::from(before & ACKNOWLEDGED != 0);
        } else {
            state.doubled += 1;
        }
        is_first
    }

    /// Jobs that were acknowledged and are not finished.
    pub fn open(&self) -> u64 {
        self.0.lock().open
    }

    /// Jobs that were finished.
    pub fn finished(&self) -> u64 {
        self.0.lock().finished
    }

    /// Finishes beyond the first one of each job.
    pub fn doubled(&self) -> u64 {
        self.0.lock().doubled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_not_finished_is_open_and_a_second_finish_is_counted() {
        let ledger = Ledger::default();
        let numbers: Vec<usize> = (0..3).map(|_| ledger.next().unwrap()).collect();
        numbers.iter().for_each(|number| ledger.acknowledge(*number));
        assert!(ledger.finish(0) && ledger.finish(2));
        assert_eq!((ledger.open(), ledger.finished(), ledger.doubled()), (1, 2, 0));
        for _ in 0..5 {
            assert!(!ledger.finish(2));
        }
        assert_eq!((ledger.open(), ledger.finished(), ledger.doubled()), (1, 2, 5));
    }

    #[test]
    fn a_job_whose_answer_comes_after_its_finish_is_not_open() {
        let ledger = Ledger::default();
        let number = ledger.next().unwrap();
        assert!(ledger.finish(number));
        ledger.acknowledge(number);
        assert_eq!((ledger.open(), ledger.finished()), (0, 1));
        assert!(!ledger.finish(7), "there is no such job");
    }
}
