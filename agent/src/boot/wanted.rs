//! What a guest is to be beside its root, its host name and its environment.
//!
//! The supervisor says it ahead of the boot, setting by setting. What can be done without the
//! root is done at once; the rest waits for it. The first thing that goes wrong is kept and told as
//! the outcome of the boot: there is nobody to tell it before.

use msb_protocol::{BootStage, InitProgram, MAX_TMPFS, MAX_TMPFS_PATH, Setting, Tmpfs};
use rustix::mount::MountAttrFlags;

use super::scripts::Scripts;
use super::{BootError, memory, restrict};
use crate::log;
use crate::sys::signal;

/// Settings, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    tmpfs: Vec<Tmpfs>,
    scripts: Option<Scripts>,
    pub(super) restricted: bool,
    pub(super) init: Option<InitProgram>,
    working_dir: Option<String>,
    pub(super) stop_signal: Option<i32>,
    failed: Option<BootError>,
}

impl Wanted {
    /// Takes one more.
    pub(super) fn take(&mut self, setting: Setting) {
        if self.failed.is_none() {
            self.failed = self.attempt(setting).err();
        }
    }

    fn attempt(&mut self, setting: Setting) -> Result<(), BootError> {
        match setting {
            Setting::Tmpfs(tmpfs) => self.tmpfs(tmpfs),
            Setting::Script { name, data } => {
                let scripts = match self.scripts.take() {
                    Some(scripts) => scripts,
                    None => Scripts::new()?,
                };
                self.scripts.insert(scripts).take(&name, &data)
            }
            Setting::Restricted => {
                self.restricted = true;
                Ok(())
            }
            Setting::Init(init) => {
                self.init = Some(init);
                Ok(())
            }
            Setting::WorkingDir(path) => {
                self.working_dir = Some(path);
                Ok(())
            }
            Setting::StopSignal(number) => {
                let number = i32::from(number);
                if !(1..=signal::LAST).contains(&number) {
                    let message = format!("there is no signal {number} to end programs with");
                    return Err(BootError::of(BootStage::Settings, message));
                }
                self.stop_signal = Some(number);
                Ok(())
            }
            // The kernel has it from the host already.
            Setting::Clock { .. } => Ok(()),
            _ => Err(BootError::of(
                BootStage::Settings,
                "this agent does not know one of the settings; use a library and a guest \
                 initramfs of the same release",
            )),
        }
    }

    fn tmpfs(&mut self, mut tmpfs: Tmpfs) -> Result<(), BootError> {
        let refuse = |message: String| Err(BootError::of(BootStage::Settings, message));
        if self.tmpfs.len() >= MAX_TMPFS {
            return refuse(format!("there are more than {MAX_TMPFS} mounts of memory"));
        }
        tmpfs.path = match plain(&tmpfs.path) {
            Ok(path) => path,
            Err(why) => return refuse(format!("memory at {:?}: {why}", tmpfs.path)),
        };
        if tmpfs.size_bytes == Some(0) {
            // To the kernel that means as much as there is.
            return refuse(format!("memory at {}: its size is 0", tmpfs.path));
        }
        if self.tmpfs.iter().any(|other| other.path == tmpfs.path) {
            return refuse(format!("memory is to be mounted at {} twice", tmpfs.path));
        }
        self.tmpfs.push(tmpfs);
        Ok(())
    }

    /// Whether commands have scripts in their `PATH`.
    pub(super) fn has_scripts(&self) -> bool {
        self.scripts.is_some()
    }

    /// Whether all went well so far.
    pub(super) fn check(&mut self) -> Result<(), BootError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Does in the root what is still to be done there.
    pub(super) fn apply(&mut self) -> Result<(), BootError> {
        // What is above something goes first, or it would hide it.
        self.tmpfs
            .sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
        for tmpfs in &self.tmpfs {
            mount(tmpfs, self.restricted)?;
        }
        // In what is mounted, if it is there. Root's, as whom the image runs or not.
        if let Some(path) = &self.working_dir {
            make_working_dir(path);
        }
        if let Some(scripts) = self.scripts.take() {
            scripts.attach()?;
        }
        if self.restricted {
            restrict::kernel()?;
        }
        Ok(())
    }
}

/// An absolute path without anything in it that means nothing.
fn plain(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') || path.len() > MAX_TMPFS_PATH || path.contains('\0') {
        return Err("it must be an absolute path of at most 4095 bytes");
    }
    let names: Vec<_> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    match names.first() {
        None => Err("the root is not memory's to take"),
        Some(&".msb") => Err("/.msb belongs to the agent"),
        Some(_) if names.contains(&"..") => Err("there may be no \"..\" in it"),
        Some(_) => Ok(format!("/{}", names.join("/"))),
    }
}

/// Makes the directory that the image wants its commands to begin in. An image that has something else in its
/// place is none that cannot boot: the commands that begin there tell of it.
fn make_working_dir(path: &str) {
    if !path.starts_with('/') || path.len() > MAX_TMPFS_PATH {
        return log::info("the image's working directory is no path, and is not made");
    }
    if let Err(error) = memory::path(path) {
        log::info(&format!(
            "the image's working directory {path:?} is not made: {error}"
        ));
    }
}

fn mount(tmpfs: &Tmpfs, restricted: bool) -> Result<(), BootError> {
    let fail = |error| {
        let what = format!("mounting memory at {}", tmpfs.path);
        BootError::new(BootStage::Settings, what, error)
    };
    let place = memory::path(&tmpfs.path).map_err(fail)?;
    if memory::is_kernels(&place).map_err(fail)? {
        let message = format!(
            "memory cannot be mounted at {}: it is the root, /dev, or a part of /proc or /sys",
            tmpfs.path
        );
        return Err(BootError::of(BootStage::Settings, message));
    }
    let mut attributes = MountAttrFlags::empty();
    for (wanted, attribute) in [
        (tmpfs.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (tmpfs.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (
            tmpfs.nosuid || restricted,
            MountAttrFlags::MOUNT_ATTR_NOSUID,
        ),
        (tmpfs.nodev || restricted, MountAttrFlags::MOUNT_ATTR_NODEV),
    ] {
        attributes.set(attribute, wanted);
    }
    let size = tmpfs.size_bytes.map(|bytes| bytes.to_string());
    // For everyone, as /tmp is: commands may run as anybody.
    let mut options = vec![("mode", "1777")];
    options.extend(size.as_deref().map(|size| ("size", size)));
    memory::make(&options, attributes)
        .and_then(|made| memory::attach(made, place))
        .map_err(fail)
}

#[cfg(test)]
#[path = "wanted_tests.rs"]
mod tests;
