//! What was found.

/// How good or bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and deserves a look.
    Warning,
    /// It does not work, or will soon not work any more.
    Problem,
    /// It could not be examined.
    Skipped,
}

impl Verdict {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
            Verdict::Skipped => "skipped",
        }
    }
}

/// One thing that was examined.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The part that it belongs to: `database`, `limits`, ….
    pub section: &'static str,
    /// What was examined: a setting's key, or a word.
    pub subject: String,
    /// How good or bad it is.
    pub verdict: Verdict,
    /// What was found. Never a secret.
    pub found: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// All findings, in order.
#[derive(Debug, Default)]
pub struct Examination {
    section: &'static str,
    findings: Vec<Finding>,
}

impl Examination {
    /// The following findings belong to this part.
    pub fn section(&mut self, name: &'static str) {
        self.section = name;
    }

    /// Something is as it should be.
    pub fn good(&mut self, subject: &str, found: impl Into<String>) {
        self.add(subject, Verdict::Good, found.into(), None);
    }

    /// Something works, and deserves a look.
    pub fn warning(&mut self, subject: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(subject, Verdict::Warning, found.into(), Some(advice.into()));
    }

    /// Something does not work, or will soon not work any more.
    pub fn problem(&mut self, subject: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(subject, Verdict::Problem, found.into(), Some(advice.into()));
    }

    /// Something could not be examined.
    pub fn skipped(&mut self, subject: &str, why: impl Into<String>) {
        self.add(subject, Verdict::Skipped, why.into(), None);
    }

    /// All findings, in order.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many findings have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// How many problems there are.
    pub fn problems(&self) -> usize {
        self.count(Verdict::Problem)
    }

    fn add(&mut self, subject: &str, verdict: Verdict, found: String, advice: Option<String>) {
        self.findings.push(Finding {
            section: self.section,
            subject: subject.to_owned(),
            verdict,
            found,
            advice,
        });
    }
}
