//! What is decided before a process exists.

use msb_protocol::ExecFailureKind;
use proptest::prelude::*;
use rustix::process::{Gid, Uid};

use super::lookup::candidates;
use super::user::{Account, resolve_in};
use crate::sys::process::Identity;

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:not-a-number:0::/:/bin/sh
short:x:9
alice:x:1000:100:Alice:/home/alice:/bin/bash
1001:x:7:7:a name that looks like a number:/seven:/bin/sh
homeless:x:1002:100:::
";

const GROUP: &str = "\
root:x:0:
users:x:100:
audio:x:29:alice,bob
video:x:44:bob
staff:x:50:bob,alice
12:x:88:
";

fn account(uid: u32, gid: u32, groups: &[u32], home: &str) -> Account {
    Account {
        identity: Identity {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.iter().copied().map(Gid::from_raw).collect(),
        },
        home: home.to_owned(),
    }
}

#[test]
fn users_are_found_by_name_and_by_number() {
    let found = |spec| resolve_in(spec, PASSWD, GROUP).unwrap();
    let alice = || account(1000, 100, &[29, 50, 100], "/home/alice");
    assert_eq!(found("alice"), alice());
    assert_eq!(found("1000"), alice());
    assert_eq!(found("alice:"), alice());
    assert_eq!(found("root"), account(0, 0, &[0], "/root"));
    assert_eq!(found("homeless"), account(1002, 100, &[100], "/"));
    // A name goes before a number.
    assert_eq!(found("1001"), account(7, 7, &[7], "/seven"));
    // A number need not be in the file.
    assert_eq!(found("4242"), account(4242, 0, &[0], "/"));
}

#[test]
fn a_named_group_is_the_only_one() {
    let found = |spec| resolve_in(spec, PASSWD, GROUP).unwrap();
    assert_eq!(
        found("alice:audio"),
        account(1000, 29, &[29], "/home/alice")
    );
    assert_eq!(found("alice:12"), account(1000, 88, &[88], "/home/alice"));
    assert_eq!(found("4242:4343"), account(4242, 4343, &[4343], "/"));
    assert_eq!(found(":staff"), account(0, 50, &[50], "/root"));
}

#[test]
fn who_is_not_there_is_an_error() {
    for spec in [
        "bob",
        "broken",
        "short",
        "alice:nobody",
        "-1",
        "4294967295",
        "4294967296",
    ] {
        let failure = resolve_in(spec, PASSWD, GROUP).unwrap_err();
        assert_eq!(failure.kind, ExecFailureKind::BadUser, "{spec}");
    }
    // With no files at all there is still root.
    assert_eq!(
        resolve_in("0", "", "").unwrap(),
        account(0, 0, &[0], "/root")
    );
}

#[test]
fn programs_are_looked_for_along_the_path() {
    let paths = |program, path| {
        let found = candidates(program, path).unwrap();
        found
            .into_iter()
            .map(|path| path.into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(paths("ls", "/bin:/usr/bin"), ["/bin/ls", "/usr/bin/ls"]);
    assert_eq!(paths("ls", "/bin::"), ["/bin/ls", "ls", "ls"]);
    assert_eq!(paths("ls", ""), ["ls"]);
    assert_eq!(paths("./ls", "/bin"), ["./ls"]);
    assert_eq!(paths("/sbin/ls", "/bin"), ["/sbin/ls"]);
}

proptest! {
    /// The files are the guest's, and may hold anything.
    #[test]
    fn no_file_ends_the_agent(
        spec in "[a-z0-9:]{0,8}",
        passwd in "([a-z0-9:,]{0,20}\n){0,6}",
        group in "\\PC{0,80}",
    ) {
        let _ = resolve_in(&spec, &passwd, &group);
    }
}
