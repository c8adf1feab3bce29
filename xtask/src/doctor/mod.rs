//! `cargo xtask doctor`: what this host can do, finding by finding, and what to do about each.
//!
//! Findings are of three kinds. Without what is *needed* no sandbox runs, and the exit code says so.
//! What is *missed* makes something weaker or impossible. The rest is well.

mod findings;
mod jail;

use std::process::ExitCode;

/// How a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    Good,
    Missed,
    Needed,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    weight: Weight,
    /// What was looked at.
    what: &'static str,
    /// What was found.
    found: String,
    /// What to do about it; empty when it is well.
    advice: String,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            weight: Weight::Good,
            what,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn missed(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            weight: Weight::Missed,
            what,
            found: found.into(),
            advice: advice.into(),
        }
    }

    fn needed(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            weight: Weight::Needed,
            what,
            found: found.into(),
            advice: advice.into(),
        }
    }
}

/// Looks at everything and prints it. Exit code 0 only when sandboxes will run.
pub(crate) fn main() -> ExitCode {
    let findings = findings::all();
    for finding in &findings {
        let mark = match finding.weight {
            Weight::Good => "ok     ",
            Weight::Missed => "missed ",
            Weight::Needed => "NEEDED ",
        };
        println!("{mark} {}: {}", finding.what, finding.found);
        if !finding.advice.is_empty() {
            println!("         {}", finding.advice);
        }
    }
    if findings
        .iter()
        .any(|finding| finding.weight == Weight::Needed)
    {
        println!("sandboxes will not run on this host as it is");
        return ExitCode::FAILURE;
    }
    println!("sandboxes will run on this host");
    ExitCode::SUCCESS
}
