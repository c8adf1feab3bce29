//! The supervisor's own jail: what it gives up once its VMM is there.
//!
//! A supervisor reads what a VMM and a guest's agent say, both of which a guest may own. Should that ever be more than
//! reading, what is left to it is its own sandbox:
//!
//! | what | how |
//! | --- | --- |
//! | its sandbox's directory and its run's | everything but devices and programs |
//! | the catalog, the gate of runs | read and written |
//! | the directories of sandboxes and of runs | entries made, renamed and removed: its own has to go in the end |
//! | `/proc` | read; nothing of processes that takes the right to trace them |
//! | every other path; TCP; abstract sockets | nothing (landlock) |
//! | programs, processes, sockets, tracing, mounts and more | refused ([`calls`]) |
//!
//! Landlock is inherited, and whoever is under it can mount nothing, which a VMM's jail begins with. So it
//! comes after the VMM was started; and as it is each thread's own, before the threads that come later, and in the
//! catalog's thread by itself. It does not keep signals in: the VMM has to be killed, which is outside.
//!
//! One limit: names in the directories of sandboxes and runs are covered as a whole, so a supervisor that was
//! taken over could rename another's directory. It could not read or write what is in it.

pub mod calls;

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The newest list of rights that this program knows.
const NEWEST: ABI = ABI::V6;

/// What a supervisor needs paths for.
#[derive(Clone, Debug)]
pub struct Needs {
    /// The home.
    pub home: PathBuf,
    /// Its sandbox's directory.
    pub sandbox: PathBuf,
    /// Its run's.
    pub run: PathBuf,
}

impl Needs {
    fn rights(&self) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = AccessFs::WriteFile | AccessFs::Truncate;
        let own = read
            | write
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir
            | AccessFs::Refer;
        let names = AccessFs::ReadDir | AccessFs::MakeDir | AccessFs::RemoveDir;
        let catalog = read | write | AccessFs::MakeReg | AccessFs::RemoveFile;
        vec![
            (self.sandbox.clone(), own),
            (self.run.clone(), own),
            (self.home.join("sandboxes"), names),
            (self.home.join("run"), names),
            (
                self.home.join("run.lock"),
                AccessFs::ReadFile | AccessFs::WriteFile,
            ),
            (self.home.join("db"), catalog),
            (PathBuf::from("/proc"), AccessFs::ReadFile.into()),
        ]
    }
}

/// Withholds every other path from the calling thread and all that it will start. `false`: the kernel does not have
/// landlock, or not enabled.
pub fn paths(needs: &Needs) -> Result<bool, RulesetError> {
    rustix::thread::set_no_new_privs(true).unwrap_or_default();
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    for (path, rights) in needs.rights() {
        // What is not there needs no right.
        if let Some(fd) = open(&path) {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, rights))?;
        }
    }
    let status = ruleset.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn open(path: &Path) -> Option<PathFd> {
    PathFd::new(path).ok()
}

#[cfg(test)]
mod tests;
