//! `starling doctor`: it finds what is wrong, says what to do, and finds nothing where nothing is wrong.

mod configuration;
mod database;
mod machine;
mod rabbitmq;
mod redis;

use serde_json::Value;
use starling_testkit::node::{Node, NodeBuilder};

use crate::finished;

/// A secret that nobody guesses.
const SECRET: &str = "q2Vb8xN0t7LmZc4Yw9KfRj3HsDu6GpEaT1oXiBv5";

/// What a doctor has found.
struct Report {
    status: i32,
    text: String,
    findings: Vec<Value>,
}

/// The doctor, with a secret that nobody guesses.
fn doctor() -> NodeBuilder {
    Node::builder().secret(SECRET).arg("doctor").arg("--json")
}

async fn examined(builder: NodeBuilder) -> Report {
    let (status, text) = finished(builder).await;
    let json = text.find('{').zip(text.rfind('}')).map(|(start, end)| &text[start..=end]);
    let json = json.unwrap_or_else(|| panic!("no report: {text}"));
    let report: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {text}"));
    let findings = report["findings"].as_array().expect("findings").clone();
    let problems = findings.iter().filter(|finding| finding["verdict"] == "problem").count();
    assert_eq!(report["problems"], problems, "{text}");
    assert_eq!(status, i32::from(problems > 0), "{text}");
    Report { status, text, findings }
}

impl Report {
    /// Asserts that this was found, with these words in it or in the advice.
    fn assert(&self, section: &str, subject: &str, verdict: &str, words: &str) -> &Report {
        let is_it = |finding: &&Value| finding["section"] == section && finding["subject"] == subject;
        let found: Vec<&Value> = self.findings.iter().filter(is_it).collect();
        assert!(!found.is_empty(), "nothing was found about {section}, {subject}: {}", self.text);
        let fits = |finding: &&&Value| finding["verdict"] == verdict && finding.to_string().contains(words);
        assert!(found.iter().any(|finding| fits(&finding)), "not {verdict} with {words:?}: {found:?}");
        let must_advise = matches!(verdict, "problem" | "warning");
        assert!(
            found.iter().all(|finding| !must_advise
                || finding["advice"].is_string()
                || finding["verdict"] != verdict)
        );
        self
    }

    /// Asserts that there is no problem.
    fn assert_well(&self) -> &Report {
        assert_eq!(self.status, 0, "{}", self.text);
        self
    }
}
