//! What the end-to-end tests find by variables beside the product: a Debian, images, a registry, and a program
//! that lists trees in a guest.

use std::path::PathBuf;

use anyhow::Result;

use super::registry;
use crate::cargo;
use crate::guest::{debian, images};
use crate::kvm::Call;

/// Tells tests where the program is that lists trees.
const TREE: &str = "MSB_TEST_TREE";

/// Files in the cache, and a program in `target`.
#[derive(Debug)]
pub(crate) struct TestFiles {
    debian: PathBuf,
    images: PathBuf,
    registry: PathBuf,
    tree: PathBuf,
}

impl TestFiles {
    /// Makes what is not there.
    pub(crate) fn build() -> Result<Self> {
        Ok(Self {
            debian: debian::build()?,
            images: images::build()?,
            registry: registry::program()?,
            tree: cargo::static_program("msb-test-tree")?,
        })
    }

    /// Makes tests find them.
    pub(crate) fn show_to(&self, call: &mut Call) {
        call.set(debian::VARIABLE, &self.debian);
        call.set(images::VARIABLE, &self.images);
        call.set(registry::VARIABLE, &self.registry);
        call.set(TREE, &self.tree);
    }
}
