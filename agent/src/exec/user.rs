//! Who runs a command: `name`, `uid`, `user:group` or `:group`.
//!
//! The root file system's own `/etc/passwd` and `/etc/group` are asked, and read by hand:
//! the C library's way would load name service modules, which a static program cannot.
//! A name's supplementary groups come along, unless the request names a group: then it
//! is that group and no other.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use msb_protocol::ExecFailure;
use rustix::process::{Gid, Uid};

use super::failure::bad_user;
use crate::sys::process::Identity;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The most of either file that is read.
const FILE_MAX: u64 = 1024 * 1024;

/// The most supplementary groups the kernel takes (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65536;

/// A user who may run something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) identity: Identity,
    pub(super) home: String,
}

/// Looks `spec` up in this root's files.
pub(super) fn resolve(spec: &str) -> Result<Account, ExecFailure> {
    resolve_in(spec, &read(PASSWD)?, &read(GROUP)?)
}

/// One line of the password file.
#[derive(Clone, Copy)]
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// One line of the group file.
#[derive(Clone, Copy)]
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

pub(super) fn resolve_in(spec: &str, passwd: &str, group: &str) -> Result<Account, ExecFailure> {
    let (user_spec, group_spec) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user_spec = if user_spec.is_empty() { "0" } else { user_spec };

    let known = by_name_or_number(users(passwd), user_spec, |user| user.name, |user| user.uid);
    let number = number(user_spec);
    let (name, uid, primary, home) = match (known, number) {
        (Some(user), _) => (Some(user.name), user.uid, user.gid, user.home),
        (None, Some(uid)) => (None, uid, 0, if uid == 0 { "/root" } else { "/" }),
        (None, None) => {
            return Err(bad_user(format!(
                "there is no user {user_spec:?} in {PASSWD}"
            )));
        }
    };

    let (gid, groups) = match group_spec {
        Some(wanted) => {
            let known =
                by_name_or_number(groups(group), wanted, |group| group.name, |group| group.gid);
            let gid = known
                .map(|group| group.gid)
                .or_else(|| self::number(wanted));
            let gid =
                gid.ok_or_else(|| bad_user(format!("there is no group {wanted:?} in {GROUP}")))?;
            (gid, vec![gid])
        }
        None => (primary, supplementary(group, name, primary)),
    };
    Ok(Account {
        identity: Identity {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        },
        home: if home.is_empty() { "/" } else { home }.to_owned(),
    })
}

/// An entry by its name or else, since names may look like numbers, by its number.
fn by_name_or_number<T: Copy>(
    entries: impl Iterator<Item = T> + Clone,
    wanted: &str,
    name: impl Fn(&T) -> &str,
    id: impl Fn(&T) -> u32,
) -> Option<T> {
    let named = entries.clone().find(|entry| name(entry) == wanted);
    named.or_else(|| {
        let number = number(wanted)?;
        entries.clone().find(|entry| id(entry) == number)
    })
}

/// The user's groups, the primary one first.
fn supplementary(group: &str, name: Option<&str>, primary: u32) -> Vec<u32> {
    let mut all = vec![primary];
    if let Some(name) = name {
        let member = |group: &Group<'_>| group.members.split(',').any(|member| member == name);
        all.extend(groups(group).filter(member).map(|group| group.gid));
    }
    all.sort_unstable();
    all.dedup();
    all.truncate(GROUPS_MAX);
    all
}

/// A user or group number. The highest means "leave as it is" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> + Clone {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let (_comment, home) = (fields.next()?, fields.next()?);
        Some(User {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> + Clone {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = number(fields.next()?)?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or(""),
        })
    })
}

/// The file as text; nothing if there is none.
fn read(path: &str) -> Result<String, ExecFailure> {
    // Not to wait if somebody put a FIFO there.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(bad_user(format!("{path}: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| bad_user(format!("{path}: {error}")))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(bad_user(format!(
            "{path} is larger than the {FILE_MAX} bytes that the agent reads"
        )));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
