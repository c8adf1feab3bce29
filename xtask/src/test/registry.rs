//! Debian's registry of images, for tests and `bench image`. Where it is not installed it is unpacked into the cache:
//! installing the package would start a registry for everybody, now and at each boot.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::progress::Progress;
use crate::{apt, cache, proc};

/// Tells tests where it is.
pub(crate) const VARIABLE: &str = "MSB_TEST_REGISTRY";

const PACKAGE: &str = "docker-registry";
const RECIPE: &str = "1: unpacked";

/// The program.
pub(crate) fn program() -> Result<PathBuf> {
    if let Some(program) = proc::find_on_path(PACKAGE) {
        return Ok(program);
    }
    let kind = cache::Kind::open("registry")?;
    let (_, release) = apt::archive()?;
    let key = cache::key(&[RECIPE.as_bytes(), release.as_bytes()]);
    let tree = kind.get_or_make(&key, |made| {
        let progress = Progress::new("fetching a registry for tests", 1);
        apt::unpack(PACKAGE, made)?;
        proc::output(Command::new(made.join("usr/bin").join(PACKAGE)).arg("--version"))?;
        progress.finish();
        Ok(())
    })?;
    Ok(tree.join("usr/bin").join(PACKAGE))
}
