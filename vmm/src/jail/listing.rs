//! The rules of all filters, for people and for tests.

use msb_vmapi::{Isolation, LayerReport, Strength};
use serde_json::{Value, json};

use super::seccomp::{Arg, Is, Process, Role, Rule, rules};

/// All rules, one JSON object a line: `{"role", "call", "number", "args": [{"index", "mask", "bits"}], "why",
/// "rare"}`. An argument must have those bits under that mask; one that is the VMM's own process id has
/// `"own_pid": true` instead.
pub fn listing() -> String {
    let mut text = String::new();
    for role in Role::ALL {
        for rule in rules(role) {
            text.push_str(&line(role, rule).to_string());
            text.push('\n');
        }
    }
    text
}

/// What is in force, one JSON object a line: `{"layer", "name", "strength", "detail", "advice"}`; the latter two
/// only where something is missing.
pub(crate) fn layers(isolation: &Isolation) -> String {
    let mut text = String::new();
    for report in &isolation.layers {
        text.push_str(&layer(report).to_string());
        text.push('\n');
    }
    text
}

fn layer(report: &LayerReport) -> Value {
    let advice = (report.strength < Strength::Full).then(|| report.layer.advice());
    json!({
        "layer": report.layer,
        "name": report.layer.as_str(),
        "strength": report.strength,
        "detail": report.detail,
        "advice": advice,
    })
}

fn line(role: Role, rule: &Rule) -> Value {
    json!({
        "role": role.as_str(),
        "call": rule.call.name,
        "number": rule.call.number,
        "args": rule.args.iter().map(argument).collect::<Vec<_>>(),
        "why": rule.why,
        "rare": rule.rare_in(role),
    })
}

fn argument(arg: &Arg) -> Value {
    let masked = |mask: u64, bits: u64| json!({"index": arg.index, "mask": mask, "bits": bits});
    let low = u64::from(u32::MAX);
    match arg.is {
        Is::Equal(value) => masked(u64::MAX, value),
        Is::Int(value) => masked(low, value.into()),
        Is::Masked { mask, bits } => masked(mask.into(), bits.into()),
        Is::Kick => masked(low, Process::own().kick.into()),
        Is::OwnPid => json!({"index": arg.index, "own_pid": true}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_a_line_of_json_with_a_reason() {
        let listing = listing();
        let lines: Vec<Value> = listing
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), Role::ALL.into_iter().flat_map(rules).count());
        for line in lines {
            assert!(line["why"].as_str().is_some_and(|why| !why.is_empty()));
            assert!(line["rare"].is_null() || line["rare"].is_string());
        }
    }
}
