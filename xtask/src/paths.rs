//! Where things are: the checkout, and the cache that outlives it.
//!
//! What is dear to make (the guest kernel, the nested machine's kernel, tools) lives under the
//! user's cache directory, so that a fresh clone finds it again. What belongs to one checkout
//! (compiled crates, the agent) lives in its `target`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout that this xtask was compiled in.
pub(crate) fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// `target`, or what `CARGO_TARGET_DIR` says instead.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => workspace().join(dir),
        _ => workspace().join("target"),
    }
}

/// `${XDG_CACHE_HOME:-~/.cache}/microsandbox`, created when missing.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is an absolute path; set one of them")?;
    let dir = base.join("microsandbox");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// `MSB_HOME`, else `~/.microsandbox`: what the library itself uses.
pub(crate) fn msb_home() -> Result<PathBuf> {
    absolute("MSB_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".microsandbox")))
        .context("neither MSB_HOME nor HOME is an absolute path; set one of them")
}

/// The cargo that runs us, so that a toolchain override holds for the builds we start too.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
