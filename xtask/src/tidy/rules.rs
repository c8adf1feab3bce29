//! The rules themselves. Each returns a sentence for everything that breaks it.

use std::collections::BTreeMap;

use super::model::{Model, Source};

/// Which of our crates may name which others (docs/architecture.md, "Dependency direction").
const MAY_USE: [(&str, &[&str]); 14] = [
    ("msb-types", &[]),
    ("msb-protocol", &["msb-types"]),
    ("msb-files", &["msb-protocol"]),
    ("msb-vmapi", &["msb-types"]),
    ("msb-store", &["msb-types"]),
    ("msb-image", &["msb-types"]),
    ("vmm-virtio", &[]),
    ("msb-vmm", &["msb-types", "msb-vmapi", "vmm-virtio"]),
    ("msb-agent", &["msb-types", "msb-protocol", "msb-files"]),
    (
        "msb-runtime",
        &[
            "msb-types",
            "msb-protocol",
            "msb-vmapi",
            "msb-store",
            "msb-image",
        ],
    ),
    (
        "microsandbox",
        &[
            "msb-types",
            "msb-protocol",
            "msb-files",
            "msb-vmapi",
            "msb-store",
            "msb-image",
            "msb-runtime",
        ],
    ),
    (
        "msb-tests",
        &["msb-types", "msb-image", "microsandbox", "msb-test-tree"],
    ),
    ("msb-test-tree", &[]),
    ("xtask", &[]),
];

/// What must not be linked into a crate of ours, by whatever way.
const NEVER_SEES: [(&str, &[&str]); 5] = [
    ("msb-vmapi", &["tokio", "redb"]),
    ("msb-vmm", &["tokio", "redb", "microsandbox"]),
    (
        "vmm-virtio",
        &["kvm-ioctls", "kvm-bindings", "tokio", "redb"],
    ),
    ("msb-agent", &["redb", "microsandbox", "msb-runtime"]),
    ("msb-types", &["tokio", "redb", "rustix"]),
];

/// Crates that pass types to one another: two versions of one do not fit together.
const SINGLE: [&str; 11] = [
    "acpi_tables",
    "kvm-bindings",
    "kvm-ioctls",
    "landlock",
    "linux-loader",
    "seccompiler",
    "virtio-bindings",
    "virtio-queue",
    "vm-memory",
    "vm-superio",
    "vmm-sys-util",
];

/// The longest source file.
const MAX_LINES: usize = 800;

/// Where code lives that users run; elsewhere are tests and tools.
const SHIPPED: [&str; 4] = ["crates/", "vmm/src/", "vmm/virtio/src/", "agent/src/"];

/// Applies every rule.
pub(super) fn all(model: &Model) -> Vec<String> {
    let mut wrong = edges(model);
    wrong.extend(unseen(model));
    wrong.extend(single_copies(model));
    wrong.extend(versions(model));
    for source in &model.sources {
        wrong.extend(length(source));
        wrong.extend(header(source));
        wrong.extend(sleeps(source));
    }
    wrong
}

/// Our crates depend on one another in one direction only.
pub(super) fn edges(model: &Model) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in model.members() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package.name) else {
            wrong.push(format!(
                "{}: a new crate; say what it may depend on in xtask/src/tidy/rules.rs",
                package.name
            ));
            continue;
        };
        let used = package.links.iter().chain(&package.others);
        for other in used.filter_map(|index| model.packages.get(*index)) {
            if other.ours && other.name != package.name && !allowed.contains(&other.name.as_str()) {
                wrong.push(format!(
                    "{} must not depend on {} (docs/architecture.md, \"Dependency direction\")",
                    package.name, other.name
                ));
            }
        }
    }
    wrong
}

/// Some crates stay free of some others, however indirectly.
pub(super) fn unseen(model: &Model) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in model.members() {
        let Some((_, banned)) = NEVER_SEES.iter().find(|(name, _)| *name == package.name) else {
            continue;
        };
        for (other, way) in model.linked(package) {
            if banned.contains(&other.name.as_str()) {
                wrong.push(format!(
                    "{} must never link {}: {way}",
                    package.name, other.name
                ));
            }
        }
    }
    wrong
}

/// One copy of each crate of the rust-vmm family.
pub(super) fn single_copies(model: &Model) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in model
        .packages
        .iter()
        .filter(|package| SINGLE.contains(&package.name.as_str()))
    {
        versions
            .entry(&package.name)
            .or_default()
            .push(&package.version);
    }
    versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| {
            format!(
                "{name} is there in versions {}: move everything to one (`cargo tree -i {name}`)",
                versions.join(" and ")
            )
        })
        .collect()
}

/// Versions are written once, in `[workspace.dependencies]`.
pub(super) fn versions(model: &Model) -> Vec<String> {
    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut wrong = Vec::new();
    for manifest in &model.manifests {
        let targets = manifest
            .toml
            .get("target")
            .and_then(|targets| targets.as_table());
        let tables = targets
            .into_iter()
            .flat_map(|targets| targets.values().filter_map(|target| target.as_table()))
            .chain([&manifest.toml]);
        for table in tables {
            for (name, spec) in TABLES
                .iter()
                .filter_map(|kind| table.get(*kind))
                .filter_map(|dependencies| dependencies.as_table())
                .flatten()
            {
                let inherited = spec
                    .get("workspace")
                    .and_then(|workspace| workspace.as_bool())
                    .unwrap_or(false);
                if !inherited {
                    wrong.push(format!(
                        "{}: write the version of {name} in the root's [workspace.dependencies], \
                         and `{name}.workspace = true` here",
                        manifest.path
                    ));
                }
            }
        }
    }
    wrong
}

/// No file grows without end.
pub(super) fn length(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > MAX_LINES).then(|| {
        format!(
            "{}: {lines} lines, more than {MAX_LINES}; split it by concept",
            source.path
        )
    })
}

/// Every file says first what it is about; crate attributes may stand before. The tests of a module
/// in a file of their own are about that module.
pub(super) fn header(source: &Source) -> Option<String> {
    if source.path.ends_with("/tests.rs") {
        return None;
    }
    let mut lines = source.text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with("#!["));
    (!first.is_some_and(|line| line.starts_with("//!"))).then(|| {
        format!(
            "{}: begin with a `//!` header that says what it is about",
            source.path
        )
    })
}

/// Code that ships waits for events, not for time.
pub(super) fn sleeps(source: &Source) -> Option<String> {
    let path = &source.path;
    let shipped = SHIPPED.iter().any(|dir| path.starts_with(dir));
    let test = path.ends_with("/tests.rs")
        || ["/tests/", "/examples/", "/testing/"]
            .iter()
            .any(|dir| path.contains(dir))
        || path.ends_with("/testing.rs");
    if !shipped || test {
        return None;
    }
    let sleep = ["thread::sleep", "time::sleep("];
    source
        .text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .find(|(_, line)| sleep.iter().any(|call| line.contains(call)))
        .map(|(number, _)| {
            format!(
                "{path}:{}: wait for an event with a deadline, do not sleep",
                number + 1
            )
        })
}
