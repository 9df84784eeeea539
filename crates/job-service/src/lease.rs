//! What a worker outside shows to prove that a job is its own.

use starling_jobs::JobId;

/// The claim of a job, as a worker outside knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The claim's number, which fences it.
    pub generation: i32,
}

impl Lease {
    /// Reads a lease of this job, as [`Lease::text`] writes it. `None` if it is none, or of another job.
    #[must_use]
    pub fn parse(job: JobId, text: &str) -> Option<Lease> {
        let (generation, tail) = text.split_once('-')?;
        let lease = Lease { job, generation: generation.parse().ok()? };
        (tail == lease.tail() && lease.text() == text).then_some(lease)
    }

    /// Returns the lease as it is given to the worker. It holds a part of the job's id, so that a worker that mixes its leases up is told.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}-{}", self.generation, self.tail())
    }

    fn tail(&self) -> String {
        let id = self.job.to_string();
        id.get(id.len().saturating_sub(8)..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_of_one_job() {
        let lease = Lease { job: JobId::new(), generation: 7 };
        assert_eq!(Lease::parse(lease.job, &lease.text()), Some(lease));
        assert_eq!(Lease::parse(JobId::new(), &lease.text()), None);
        for text in ["", "7", "-", "x-y", &format!("+{}", lease.text()), &format!("0{}", lease.text())] {
            assert_eq!(Lease::parse(lease.job, text), None, "{text}");
        }
    }
}
