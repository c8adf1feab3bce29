//! The picture of the workspace that the rules look at: packages and their dependencies as cargo
//! resolved them, manifests, and source files.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, PackageId};

use crate::{paths, proc};

/// Everything that the rules need to know.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) packages: Vec<Package>,
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) sources: Vec<Source>,
}

/// One package of the resolved graph.
#[derive(Debug, Default, Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether it is a member of the workspace.
    pub(crate) ours: bool,
    /// Indexes into [`Model::packages`] of what it links in (normal dependencies).
    pub(crate) links: Vec<usize>,
    /// Indexes of what only its build script and its tests use.
    pub(crate) others: Vec<usize>,
}

/// A member's `Cargo.toml`.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) path: String,
    pub(crate) toml: toml::Table,
}

/// A Rust source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the checkout.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Model {
    /// Reads the checkout that xtask was built in.
    pub(crate) fn read() -> Result<Self> {
        let root = paths::workspace();
        let metadata = MetadataCommand::new()
            .cargo_path(paths::cargo())
            .manifest_path(root.join("Cargo.toml"))
            .exec()
            .context("cargo metadata failed")?;
        let members: HashSet<&PackageId> = metadata.workspace_members.iter().collect();
        let index: HashMap<&PackageId, usize> = metadata
            .packages
            .iter()
            .enumerate()
            .map(|(i, package)| (&package.id, i))
            .collect();
        let mut packages: Vec<Package> = metadata
            .packages
            .iter()
            .map(|package| Package {
                name: package.name.to_string(),
                version: package.version.to_string(),
                ours: members.contains(&package.id),
                ..Package::default()
            })
            .collect();
        let resolve = metadata
            .resolve
            .as_ref()
            .context("cargo resolved nothing")?;
        for node in &resolve.nodes {
            let from = *index
                .get(&node.id)
                .context("cargo metadata names an unknown package")?;
            for dep in &node.deps {
                let to = *index
                    .get(&dep.pkg)
                    .context("cargo metadata names an unknown package")?;
                let normal = dep
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal);
                let package = &mut packages[from];
                if normal {
                    package.links.push(to)
                } else {
                    package.others.push(to)
                }
            }
        }

        let mut manifests = Vec::new();
        for package in metadata
            .packages
            .iter()
            .filter(|package| members.contains(&package.id))
        {
            let path = &package.manifest_path;
            let text = std::fs::read_to_string(path).with_context(|| path.to_string())?;
            let toml = text.parse().with_context(|| format!("{path} is no TOML"))?;
            let path = path.strip_prefix(&root).unwrap_or(path).to_string();
            manifests.push(Manifest { path, toml });
        }

        // Tracked files, and those that would be with the next commit.
        let list = proc::text(Command::new("git").current_dir(&root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            "*.rs",
        ]))?;
        let mut sources = Vec::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // A file that is deleted and not yet committed is listed, and gone.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                sources.push(Source {
                    path: path.to_owned(),
                    text,
                });
            }
        }
        Ok(Self {
            packages,
            manifests,
            sources,
        })
    }

    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.ours)
    }

    /// All that a package links in, directly or not, with a way to it: `a -> b -> c`.
    pub(crate) fn linked(&self, package: &Package) -> Vec<(&Package, String)> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        let mut queue: Vec<(usize, String)> = package
            .links
            .iter()
            .map(|to| (*to, package.name.clone()))
            .collect();
        while let Some((at, way)) = queue.pop() {
            let Some(next) = self.packages.get(at).filter(|_| seen.insert(at)) else {
                continue;
            };
            let way = format!("{way} -> {}", next.name);
            queue.extend(next.links.iter().map(|to| (*to, way.clone())));
            found.push((next, way));
        }
        found
    }
}
