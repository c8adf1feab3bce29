//! Trees in guests: listed by the same program that lists those on the host, and compared entry by entry.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;
use msb_test_tree::{Entry, Tree};

/// How many differences are told.
const TOLD: usize = 20;

/// Where the program and the root are in the guest: in memory, which is no part of the root.
const PROGRAM: &str = "/tmp/msb-test-tree";
const ROOT: &str = "/tmp/msb-test-root";

/// The whole root file system of a sandbox, without what is mounted over it.
pub async fn of_guest(sandbox: &Sandbox) -> Result<Tree> {
    let program = std::env::var_os("MSB_TEST_TREE").map(PathBuf::from);
    let program = program.context("MSB_TEST_TREE is not set; use cargo xtask test")?;
    let files = sandbox.fs();
    files.copy_from_host(&program, PROGRAM).await?;
    files.mkdir(ROOT).await?;
    let listing = sandbox
        .exec_with(PROGRAM, |options| {
            options.args(["/", ROOT]).user("root").cwd("/")
        })
        .await?;
    ensure!(
        listing.status().success,
        "the guest's tree cannot be listed: {}",
        listing.stderr()?
    );
    let mut tree = Tree::new();
    for line in listing.stdout()?.lines() {
        let (path, entry): (String, Entry) = serde_json::from_str(line)?;
        tree.insert(hex::decode(path)?, entry);
    }
    Ok(tree)
}

/// Fails unless two trees are the same, in everything.
pub fn ensure_same(expected: &Tree, found: &Tree) -> Result<()> {
    let mut differences = Vec::new();
    for (path, entry) in expected {
        match found.get(path) {
            Some(other) if other == entry => {}
            other => {
                let other = other.map_or("nothing".to_owned(), Entry::to_string);
                let path = path.escape_ascii();
                differences.push(format!("/{path}:\n  expected {entry}\n  found    {other}"));
            }
        }
    }
    for (path, entry) in found {
        if !expected.contains_key(path) {
            let path = path.escape_ascii();
            differences.push(format!("/{path}:\n  found    {entry}"));
        }
    }
    let count = differences.len();
    differences.truncate(TOLD);
    ensure!(
        count == 0,
        "{count} of {} entries differ:\n{}",
        expected.len(),
        differences.join("\n")
    );
    Ok(())
}
