//! `cargo xtask guest`: what a sandbox is made of, a kernel, an initramfs with the agent as `/init`, and a
//! template of writable layers.

pub(crate) mod debian;
pub(crate) mod images;
pub(crate) mod initramfs;
pub(crate) mod kconfig;
pub(crate) mod kernel;
pub(crate) mod upper;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

/// Options of `guest`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the kernel, not the initramfs and the template
    #[arg(long)]
    kernel_only: bool,
    /// Make the Debian disk of the end-to-end tests too
    #[arg(long)]
    debian: bool,
    /// Make the images of the end-to-end tests too
    #[arg(long)]
    images: bool,
    /// Print shell lines that export MSB_KERNEL_PATH, MSB_INITRAMFS_PATH and MSB_UPPER_TEMPLATE_PATH
    #[arg(long)]
    env: bool,
    /// Look for a newer kernel source package than the one used so far
    #[arg(long)]
    update: bool,
}

/// The files that a sandbox is made of.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) upper: PathBuf,
}

impl Guest {
    /// Finds them in the cache, or builds them.
    pub(crate) fn build() -> Result<Self> {
        Ok(Self {
            kernel: kernel::build(false)?,
            initramfs: initramfs::build()?,
            upper: upper::build()?,
        })
    }

    /// The variables by which the library, the tests and the example find them.
    pub(crate) fn env(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("MSB_KERNEL_PATH", self.kernel.clone()),
            ("MSB_INITRAMFS_PATH", self.initramfs.clone()),
            (upper::VARIABLE, self.upper.clone()),
        ]
    }
}

/// Runs the subcommand.
pub(crate) fn main(options: &Options) -> Result<()> {
    let mut lines = vec![("kernel", "MSB_KERNEL_PATH", kernel::build(options.update)?)];
    if !options.kernel_only {
        lines.push(("initramfs", "MSB_INITRAMFS_PATH", initramfs::build()?));
        lines.push(("template", upper::VARIABLE, upper::build()?));
    }
    if options.debian {
        lines.push(("debian", debian::VARIABLE, debian::build()?));
    }
    if options.images {
        lines.push(("images", images::VARIABLE, images::build()?));
    }
    for (name, variable, path) in lines {
        if options.env {
            println!("export {variable}={}", shell_quote(&path.to_string_lossy()));
        } else {
            println!("{name}: {}", path.display());
        }
    }
    Ok(())
}

/// A word that a POSIX shell reads back unchanged.
fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_survives_a_quote() {
        assert_eq!(shell_quote("/a b"), "'/a b'");
        assert_eq!(shell_quote("it's"), r"'it'\''s'");
    }
}
