//! Where things are: the home directory, and the parts that are installed.
//!
//! Each part is looked for in this order, and the first that exists is taken:
//!
//! 1. the path in its environment variable (`MSB_RUNTIME_PATH`, `MSB_VMM_PATH`,
//!    `MSB_KERNEL_PATH`, `MSB_INITRAMFS_PATH`, `MSB_UPPER_TEMPLATE_PATH`); when it is set, nothing
//!    else is looked at
//! 2. the home, `MSB_HOME` or else `~/.microsandbox`: executables in `bin/`, the kernel, the
//!    initramfs and the template of writable layers in `lib/`
//! 3. for executables: the directory of the running program and the one above it, which
//!    is where Cargo builds examples and tests
//! 4. for executables: the directories of `PATH`

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Component, MicrosandboxError, MicrosandboxResult};

/// Where the program says that a library with a guest's kernel is.
static LIBKRUNFW: OnceLock<PathBuf> = OnceLock::new();

/// Names a `libkrunfw` library to take the guest's kernel from. The first call counts.
///
/// Sandboxes of this library run the kernel that is installed with it, or the one that
/// `MSB_KERNEL_PATH` names. So after this call, creating and starting one returns
/// [`Unsupported`](MicrosandboxError::Unsupported) rather than boot another kernel than was asked for.
pub fn set_libkrunfw_path(path: impl Into<PathBuf>) {
    let _ = LIBKRUNFW.set(path.into());
}

/// Refuses a kernel from elsewhere.
pub(crate) fn own_kernel() -> MicrosandboxResult<()> {
    match LIBKRUNFW.get() {
        None => Ok(()),
        Some(path) => Err(MicrosandboxError::Unsupported {
            feature: format!("the guest kernel of {}", path.display()),
            available_when: "leave out set_libkrunfw_path(), and name a kernel of your own with \
                             MSB_KERNEL_PATH"
                .to_owned(),
        }),
    }
}

/// The home directory: `MSB_HOME`, or `~/.microsandbox`.
pub(crate) fn home() -> MicrosandboxResult<PathBuf> {
    if let Some(home) = env::var_os("MSB_HOME").filter(|home| !home.is_empty()) {
        return std::path::absolute(home).map_err(Into::into);
    }
    env::home_dir()
        .map(|home| home.join(".microsandbox"))
        .ok_or_else(|| {
            MicrosandboxError::InvalidConfig(
                "there is no home directory; set MSB_HOME to a directory of this user".to_owned(),
            )
        })
}

/// Whether sandboxes may have the pages of their images in common. They do unless `MSB_MAP_IMAGES` is `0`: what is shared
/// can be watched, by timing, by those who share it.
pub(crate) fn map_images() -> bool {
    env::var_os("MSB_MAP_IMAGES").is_none_or(|value| value != "0")
}

/// Finds an installed part.
pub(crate) fn find(component: Component, home: &Path) -> MicrosandboxResult<PathBuf> {
    let searched = match env::var_os(component.variable()).filter(|path| !path.is_empty()) {
        Some(path) => vec![PathBuf::from(path)],
        None => candidates(component, home),
    };
    match searched.iter().find(|path| path.is_file()) {
        // Absolute, since the supervisor has a working directory of its own.
        Some(found) => std::path::absolute(found).map_err(Into::into),
        None => Err(MicrosandboxError::ComponentNotFound {
            component,
            searched,
        }),
    }
}

fn candidates(component: Component, home: &Path) -> Vec<PathBuf> {
    let executable = match component {
        Component::Runtime => "msb-runtime",
        Component::Vmm => "msb-vmm",
        Component::Kernel => return vec![home.join("lib/vmlinux")],
        Component::Initramfs => return vec![home.join("lib/initramfs.cpio")],
        Component::UpperTemplate => return vec![home.join("lib/upper.ext4")],
    };
    let mut directories = vec![home.join("bin")];
    if let Ok(program) = env::current_exe() {
        directories.extend(program.ancestors().skip(1).take(2).map(Path::to_path_buf));
    }
    if let Some(path) = env::var_os("PATH") {
        directories.extend(env::split_paths(&path).filter(|path| path.is_absolute()));
    }
    directories
        .into_iter()
        .map(|directory| directory.join(executable))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_part_names_every_place() {
        let home = tempfile::tempdir().unwrap();
        for component in [
            Component::Kernel,
            Component::Initramfs,
            Component::UpperTemplate,
        ] {
            let error = find(component, home.path()).unwrap_err();
            let MicrosandboxError::ComponentNotFound { searched, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(searched.len(), 1);
            let text = error.to_string();
            assert!(text.contains(home.path().to_str().unwrap()), "{text}");
            assert!(text.contains(component.variable()), "{text}");
        }
    }

    #[test]
    fn a_kernel_from_elsewhere_is_not_left_out_in_silence() {
        assert!(own_kernel().is_ok());
        set_libkrunfw_path("/lib/libkrunfw.so");
        let refused = own_kernel();
        assert!(matches!(
            refused,
            Err(MicrosandboxError::Unsupported { .. })
        ));
    }

    #[test]
    fn the_home_comes_before_the_path() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("bin")).unwrap();
        let installed = home.path().join("bin/msb-runtime");
        std::fs::write(&installed, "").unwrap();
        assert_eq!(find(Component::Runtime, home.path()).unwrap(), installed);
    }
}
