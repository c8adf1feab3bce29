//! From what a program measured to the numbers that a bench ends with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::stats;

/// What was measured, by its name.
pub(super) type Measured = BTreeMap<String, Vec<f64>>;

/// One number of a result.
pub(super) enum Figure {
    /// The median of what was measured under this name.
    Measured(&'static str),
    /// The first median over the second.
    Ratio(&'static str, &'static str, &'static str),
}

impl Figure {
    /// Its name and value; what is missing for it, if something was not measured.
    pub(super) fn of(&self, measured: &Measured) -> Result<(&'static str, f64), &'static str> {
        let median = |what: &'static str| {
            let values = measured.get(what).map(Vec::as_slice).unwrap_or_default();
            stats::median(values).ok_or(what)
        };
        match *self {
            Self::Measured(what) => Ok((what, median(what)?)),
            Self::Ratio(name, of, to) => Ok((name, median(of)? / median(to)?)),
        }
    }
}

/// Writes the numbers to the report, with all else that is in it, and ends with the line that says them.
pub(super) fn tell(
    bench: &str,
    figures: Vec<(&'static str, f64)>,
    decimals: usize,
    mut report: Value,
    path: &Path,
) -> Result<()> {
    let mut line = format!("{bench}:");
    for (name, value) in figures {
        line.push_str(&format!(" {name}={value:.decimals$}"));
        report[name] = json!(value);
    }
    fs::write(path, format!("{report:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{line}");
    Ok(())
}
