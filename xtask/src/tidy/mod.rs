//! `cargo xtask tidy`: the rules of the project that no compiler checks.
//!
//! The rules ([`rules`]) are pure functions over a small picture of the workspace ([`model`]), so
//! each has a test that shows it failing.

mod model;
mod rules;
#[cfg(test)]
mod tests;

use anyhow::{Result, bail};

use model::Model;

/// Checks the checkout; the error names everything that is wrong.
pub(crate) fn main() -> Result<()> {
    let model = Model::read()?;
    let mut wrong = rules::all(&model);
    if wrong.is_empty() {
        let (packages, files) = (model.members().count(), model.sources.len());
        eprintln!("tidy: {packages} packages and {files} source files are in order");
        return Ok(());
    }
    wrong.sort();
    bail!(
        "{} things are not in order:\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    );
}
