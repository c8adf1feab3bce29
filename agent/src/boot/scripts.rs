//! The scripts that a sandbox brings along: executable files in memory, in every command's `PATH`.
//!
//! Their bytes come ahead of the boot, part by part, and each part goes to its file at once: the
//! memory that they are to be in is there before the root is, and is mounted when the root is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use msb_protocol::{BootStage, SCRIPTS_DIR};
use msb_types::{MAX_SCRIPT_BYTES, MAX_SCRIPTS, validate_script};
use rustix::fs::{CWD, Mode, OFlags, fchmod, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::{BootError, files, memory};
use crate::log;

/// Where shells look for pieces of their profile, if they do.
const PROFILES: &str = "/etc/profile.d";

/// Our piece of it. Login shells set `PATH` anew, and then it is to be in it again.
const PROFILE: &str = "microsandbox.sh";

const EXECUTABLE: Mode = Mode::from_raw_mode(0o755);

/// Scripts, in memory that is mounted nowhere yet.
#[derive(Debug)]
pub(super) struct Scripts {
    mount: OwnedFd,
    directory: OwnedFd,
    names: BTreeSet<String>,
    /// The one whose parts come.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    name: String,
    file: File,
    bytes: usize,
}

impl Scripts {
    pub(super) fn new() -> Result<Self, BootError> {
        let make = || -> Result<Self, Errno> {
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let mount = memory::make(&[("mode", "0755")], attributes)?;
            let name = SCRIPTS_DIR.rsplit('/').next().unwrap_or(SCRIPTS_DIR);
            mkdirat(&mount, name, EXECUTABLE)?;
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(&mount, name, flags, Mode::empty())?;
            Ok(Self {
                mount,
                directory,
                names: BTreeSet::new(),
                open: None,
            })
        };
        make().map_err(|error| fail("making memory for scripts", error))
    }

    /// Takes the next bytes of a script.
    pub(super) fn take(&mut self, name: &str, data: &[u8]) -> Result<(), BootError> {
        if self.open.as_ref().is_none_or(|open| open.name != name) {
            self.open = Some(self.begin(name)?);
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.bytes = open.bytes.saturating_add(data.len());
        if open.bytes > MAX_SCRIPT_BYTES {
            let message = format!("the script {name:?} has more than {MAX_SCRIPT_BYTES} bytes");
            return Err(BootError::of(BootStage::Settings, message));
        }
        let written = open.file.write_all(data);
        written.map_err(|error| fail(format!("writing the script {name:?} to memory"), error))
    }

    fn begin(&mut self, name: &str) -> Result<Open, BootError> {
        let refuse = |message: String| Err(BootError::of(BootStage::Settings, message));
        if let Err(invalid) = validate_script(name, "") {
            return refuse(invalid.to_string());
        }
        if self.names.len() >= MAX_SCRIPTS {
            return refuse(format!("there are more than {MAX_SCRIPTS} scripts"));
        }
        if !self.names.insert(name.to_owned()) {
            return refuse(format!("the script {name:?} was sent twice"));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, EXECUTABLE)
            .and_then(|file| fchmod(&file, EXECUTABLE).map(|()| file))
            .map_err(|error| fail(format!("making the script {name:?}"), error))?;
        Ok(Open {
            name: name.to_owned(),
            file: file.into(),
            bytes: 0,
        })
    }

    /// Mounts them in the root.
    pub(super) fn attach(self) -> Result<(), BootError> {
        let top = SCRIPTS_DIR
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .and_then(|root| memory::directory(root, top))
            .and_then(|place| memory::attach(&self.mount, place))
            .map_err(|error| {
                let what = format!("mounting the scripts at /{top}, a directory of the root disk");
                fail(what, error)
            })?;
        if let Err(error) = profile()
            && error.kind() != io::ErrorKind::NotFound
        {
            log::info(&format!("login shells do not find the scripts: {error}"));
        }
        Ok(())
    }
}

/// Has login shells find scripts too, where the root has a place to say so.
fn profile() -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let profiles = openat(CWD, PROFILES, flags, Mode::empty())?;
    let text = format!(
        "# Written by microsandbox: scripts of the sandbox are found by their names.\n\
         if [ -d {SCRIPTS_DIR} ]; then\n\
         \tcase \":$PATH:\" in\n\
         \t*:{SCRIPTS_DIR}:*) ;;\n\
         \t*) PATH=\"{SCRIPTS_DIR}:$PATH\"; export PATH ;;\n\
         \tesac\n\
         fi\n"
    );
    // In the place of whatever is there: it has our name.
    files::replace(&profiles, PROFILE, &text)
}

fn fail(what: impl std::fmt::Display, error: impl Into<io::Error>) -> BootError {
    BootError::new(BootStage::Settings, what, error)
}
