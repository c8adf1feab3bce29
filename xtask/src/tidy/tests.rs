//! Each rule, shown passing and failing.

use super::model::{Manifest, Model, Package, Source};
use super::rules;

/// A package with these links, by index.
fn package(name: &str, ours: bool, links: &[usize]) -> Package {
    Package {
        name: name.into(),
        version: "1.0.0".into(),
        ours,
        links: links.to_vec(),
        others: Vec::new(),
    }
}

fn graph(packages: Vec<Package>) -> Model {
    Model {
        packages,
        ..Model::default()
    }
}

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.into(),
        text: text.into(),
    }
}

#[test]
fn edges_along_the_direction_are_fine() {
    let model = graph(vec![
        package("msb-types", true, &[]),
        package("msb-vmapi", true, &[0]),
    ]);
    assert!(rules::edges(&model).is_empty());
}

#[test]
fn an_edge_against_the_direction_is_named() {
    let model = graph(vec![
        package("msb-runtime", true, &[]),
        package("msb-vmm", true, &[0]),
    ]);
    let wrong = rules::edges(&model);
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].starts_with("msb-vmm must not depend on msb-runtime"));
}

#[test]
fn an_edge_that_only_tests_use_counts_too() {
    let mut agent = package("msb-agent", true, &[]);
    agent.others = vec![0];
    let model = graph(vec![package("microsandbox", true, &[]), agent]);
    assert_eq!(rules::edges(&model).len(), 1);
}

#[test]
fn xtask_uses_nothing_of_ours() {
    let model = graph(vec![
        package("msb-types", true, &[]),
        package("xtask", true, &[0]),
    ]);
    assert_eq!(rules::edges(&model).len(), 1);
}

#[test]
fn an_unknown_crate_of_ours_is_named() {
    let wrong = rules::edges(&graph(vec![package("msb-new", true, &[])]));
    assert!(wrong[0].contains("a new crate"));
}

#[test]
fn tokio_in_the_vmm_is_found_through_others() {
    let model = graph(vec![
        package("tokio", false, &[]),
        package("innocent", false, &[0]),
        package("msb-vmm", true, &[1]),
    ]);
    assert_eq!(
        rules::unseen(&model),
        ["msb-vmm must never link tokio: msb-vmm -> innocent -> tokio"]
    );
}

#[test]
fn kvm_in_the_devices_is_found_and_a_circle_ends() {
    let model = graph(vec![
        package("kvm-ioctls", false, &[1]),
        package("round", false, &[0]),
        package("vmm-virtio", true, &[1]),
    ]);
    assert_eq!(rules::unseen(&model).len(), 1);
}

#[test]
fn what_only_tests_link_may_be_there() {
    let mut vmm = package("msb-vmm", true, &[]);
    vmm.others = vec![0];
    assert!(rules::unseen(&graph(vec![package("tokio", false, &[]), vmm])).is_empty());
}

#[test]
fn a_second_copy_of_a_rust_vmm_crate_is_named() {
    let mut old = package("vm-memory", false, &[]);
    old.version = "0.17.1".into();
    let model = graph(vec![
        old,
        package("vm-memory", false, &[]),
        package("libc", false, &[]),
    ]);
    let wrong = rules::single_copies(&model);
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].contains("0.17.1 and 1.0.0"));
    assert!(rules::single_copies(&graph(vec![package("vm-memory", false, &[])])).is_empty());
}

#[test]
fn versions_outside_the_workspace_table_are_named() {
    let toml = "[dependencies]\na.workspace = true\nb = '1'\n\
                [dev-dependencies]\nc = { version = '2' }\n\
                [target.'cfg(unix)'.dependencies]\nd = { path = '../d' }\n";
    let manifests = vec![Manifest {
        path: "x/Cargo.toml".into(),
        toml: toml.parse().unwrap(),
    }];
    let mut wrong = rules::versions(&Model {
        manifests,
        ..Model::default()
    });
    wrong.sort();
    let named = |name: &str| {
        wrong
            .iter()
            .any(|text| text.contains(&format!("version of {name} ")))
    };
    assert_eq!(wrong.len(), 3);
    assert!(named("b") && named("c") && named("d"));
}

#[test]
fn a_file_of_801_lines_is_too_long() {
    assert!(rules::length(&source("a.rs", &"x\n".repeat(800))).is_none());
    assert!(rules::length(&source("a.rs", &"x\n".repeat(801))).is_some());
}

#[test]
fn a_header_comes_first() {
    assert!(rules::header(&source("a.rs", "\n//! What it is.\n")).is_none());
    assert!(rules::header(&source("a.rs", "#![no_main]\n//! What it is.\n")).is_none());
    assert!(rules::header(&source("a/tests.rs", "use super::*;\n")).is_none());
    assert!(rules::header(&source("a.rs", "use std::io;\n//! Late.\n")).is_some());
    assert!(rules::header(&source("a.rs", "")).is_some());
}

#[test]
fn sleeping_is_for_tests() {
    let sleeping = "//! H\nfn f() { std::thread::sleep(D) }\n";
    assert!(
        rules::sleeps(&source("vmm/src/a.rs", sleeping))
            .unwrap()
            .contains("a.rs:2")
    );
    let tokio = "//! H\nasync fn f() { tokio::time::sleep(D).await }\n";
    assert!(rules::sleeps(&source("crates/runtime/src/a.rs", tokio)).is_some());
    assert!(rules::sleeps(&source("agent/src/a/tests.rs", sleeping)).is_none());
    assert!(rules::sleeps(&source("xtask/src/a.rs", sleeping)).is_none());
    let tested = "//! H\n#[cfg(test)]\nmod tests { fn f() { std::thread::sleep(D) } }\n";
    assert!(rules::sleeps(&source("agent/src/a.rs", tested)).is_none());
    assert!(
        rules::sleeps(&source(
            "agent/src/a.rs",
            "//! H\n// no thread::sleep here\n"
        ))
        .is_none()
    );
}
