//! The layers of the VMM's jail, as the VMM finds them when it tries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Finding;
use crate::{paths, proc};

/// A line of `msb-vmm --isolation`.
#[derive(Debug, Deserialize)]
struct Layer {
    name: String,
    strength: String,
    detail: Option<String>,
    advice: Option<String>,
}

/// What the VMM that sandboxes would use finds; `None` where none is installed, or it cannot say.
pub(super) fn layers() -> Option<Vec<Finding>> {
    findings(&ask(&vmm()?)?)
}

/// Where the library looks for it.
fn vmm() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MSB_VMM_PATH") {
        return Some(path.into());
    }
    let installed = paths::msb_home().ok()?.join("bin/msb-vmm");
    if installed.is_file() {
        return Some(installed);
    }
    proc::find_on_path("msb-vmm")
}

fn ask(vmm: &Path) -> Option<String> {
    let output = Command::new(vmm)
        .arg("--isolation")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// One finding of what is in full, and one for each layer that is not.
fn findings(text: &str) -> Option<Vec<Finding>> {
    let layers: Vec<Layer> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .ok()?;
    let (full, lacking): (Vec<_>, Vec<_>) = layers
        .into_iter()
        .partition(|layer| layer.strength == "full");
    let names: Vec<String> = full.into_iter().map(|layer| layer.name).collect();
    let mut findings = vec![Finding::good("jail", names.join(", "))];
    for Layer {
        name,
        strength,
        detail,
        advice,
    } in lacking
    {
        let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
        let found = format!("{name}: {strength}{detail}");
        let advice = advice.unwrap_or_else(|| "run a newer kernel".to_owned());
        findings.push(Finding::missed("jail", found, advice));
    }
    Some(findings)
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::*;

    #[test]
    fn each_layer_that_lacks_something_is_a_finding_with_what_to_do() {
        let text = concat!(
            r#"{"layer":"seccomp","name":"seccomp","strength":"full","detail":null,"advice":null}"#,
            "\n",
            r#"{"layer":"landlock","name":"landlock","strength":"partial","detail":"paths only","advice":"do this"}"#,
            "\n",
        );
        let findings = findings(text).unwrap();
        assert_eq!(
            (findings[0].weight, &*findings[0].found),
            (Weight::Good, "seccomp")
        );
        assert_eq!(findings[1].weight, Weight::Missed);
        assert_eq!(findings[1].found, "landlock: partial (paths only)");
        assert_eq!(findings[1].advice, "do this");
        assert!(super::findings("no").is_none());
    }
}
