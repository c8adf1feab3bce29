//! A guest as people have them, a Debian: Python reads its script, pip installs what was copied in,
//! systemd is its init, and real trees go to the host and back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use microsandbox::{EndReason, Sandbox};
use msb_tests::{Fixture, PATIENCE, in_time, wheel};
use sha2::{Digest, Sha256};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Runs a script that has to succeed, and returns what it printed.
async fn script(sandbox: &Sandbox, script: &str) -> Result<Vec<u8>> {
    let output = sandbox.shell(script).await?;
    ensure!(
        output.status().success,
        "{script}: {}{}",
        String::from_utf8_lossy(output.stdout_bytes()),
        String::from_utf8_lossy(output.stderr_bytes())
    );
    Ok(output.stdout_bytes().to_vec())
}

#[tokio::test]
async fn python_reads_its_script_from_standard_input() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.debian("deb-python")?.create().await?;
    // More than a pipe holds.
    let text = "a line of a script\n".repeat(20_000);
    let source = format!(
        "import hashlib, sys\n\
         text = \"\"\"{text}\"\"\"\n\
         print(sys.argv[1:], hashlib.sha256(text.encode()).hexdigest())\n\
         print('said aside', file=sys.stderr)\n\
         sys.exit(7)\n"
    );
    let output = sandbox
        .exec_with("python3", |options| {
            options
                .args(["-", "one", "two words"])
                .stdin_bytes(source.into_bytes())
        })
        .await?;
    assert_eq!(
        (output.stdout()?, output.stderr()?.as_str()),
        (
            format!("['one', 'two words'] {}\n", hex(Sha256::digest(&text))),
            "said aside\n"
        )
    );
    assert_eq!(output.status().code, 7);
    sandbox.stop().await?;
    Ok(())
}

/// A package with its tests, and a program that writes a table.
const PACKAGE: [(&str, &str); 3] = [
    (
        "squares/__init__.py",
        "def table(count):\n    return ''.join(f'{n} {n * n}\\n' for n in range(count))\n",
    ),
    (
        "squares/__main__.py",
        "import sys\nfrom . import table\n\
         with open(sys.argv[1], 'w') as file:\n    file.write(table(int(sys.argv[2])))\n",
    ),
    (
        "squares/tests.py",
        "import unittest\nfrom . import table\n\n\n\
         class Tables(unittest.TestCase):\n\
         \x20   def test_empty(self):\n        self.assertEqual(table(0), '')\n\n\
         \x20   def test_three(self):\n        self.assertEqual(table(3), '0 0\\n1 1\\n2 4\\n')\n",
    ),
];

#[tokio::test]
async fn a_wheel_is_installed_tested_and_its_result_copied_out() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.debian("deb-wheel")?.create().await?;
    let name = "squares-1.0-py3-none-any.whl";
    let file = fixture.path().join(name);
    fs::write(&file, wheel::pack("squares", &PACKAGE)?)?;
    let files = sandbox.fs();
    files
        .copy_from_host(&file, &format!("/root/{name}"))
        .await?;
    script(
        &sandbox,
        &format!(
            "python3 -m pip install --no-index --no-deps --break-system-packages --no-cache-dir \
             --disable-pip-version-check /root/{name}"
        ),
    )
    .await?;
    let tested = script(
        &sandbox,
        "cd / && python3 -m unittest -v squares.tests 2>&1",
    )
    .await?;
    let tested = String::from_utf8(tested)?;
    assert!(
        tested.contains("Ran 2 tests") && tested.trim_end().ends_with("OK"),
        "{tested}"
    );
    script(&sandbox, "cd / && python3 -m squares /root/table 10000").await?;
    let result = fixture.path().join("table");
    files.copy_to_host("/root/table", &result).await?;
    let expected: String = (0..10_000_u64)
        .map(|n| format!("{n} {}\n", n * n))
        .collect();
    assert!(
        fs::read_to_string(&result)? == expected,
        "the table is another"
    );
    sandbox.stop().await?;
    Ok(())
}

/// How long systemd may take to come up in a guest that is emulated.
const SYSTEMD: Duration = PATIENCE.saturating_mul(3);

/// A service with words for its log, at both ends.
const SERVICE: &str = "[Service]\nExecStart=/bin/sh -c 'echo it began > /root/service; exec sleep infinity'\n\
    ExecStop=/bin/sh -c 'echo it ended > /root/ended'\n[Install]\nWantedBy=multi-user.target\n";

#[tokio::test]
async fn systemd_is_its_init_and_ends_its_services() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture.debian("deb-systemd")?.ephemeral(false);
    let sandbox = in_time(SYSTEMD, builder.init("auto").create()).await?;
    // Commands run before systemd listens. `degraded` is up too: a unit may want what this machine has not.
    let up = "until [ -S /run/systemd/private ]; do sleep 0.1; done; systemctl is-system-running --wait; systemctl --failed --no-legend --plain; \
              cat /proc/1/comm; systemctl show --property=Version --value";
    let up = in_time(SYSTEMD, sandbox.shell(up)).await?.stdout()?;
    ensure!(
        (up.starts_with("running\n") || up.starts_with("degraded\n")) && up.contains("\nsystemd\n"),
        "it did not come up: {up}"
    );
    sandbox
        .fs()
        .write("/etc/systemd/system/own.service", SERVICE)
        .await?;
    let started = "systemctl daemon-reload && systemctl enable --now own.service && \
                   until [ -s /root/service ]; do sleep 0.1; done; systemctl is-active own.service";
    let started = in_time(SYSTEMD, sandbox.shell(started)).await?;
    ensure!(started.stdout()? == "active\n", "{started:?}");
    // A command of ours is none of systemd's, and is there beside it.
    script(&sandbox, "kill -0 1 && [ \"$(hostname)\" = deb-systemd ]").await?;
    in_time(SYSTEMD, sandbox.stop_with_timeout(SYSTEMD)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));

    let again = in_time(SYSTEMD, sandbox.handle().await?.start()).await?;
    // The service that begins anew writes over it.
    let ended = script(&again, "cat /root/ended").await?;
    assert_eq!(String::from_utf8(ended)?, "it ended\n");
    in_time(SYSTEMD, again.kill()).await?;
    again.remove_persisted().await?;
    Ok(())
}

/// What is compared of each entry.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// As `find` writes it: `f`, `d`, `l`, or another.
    kind: char,
    /// Permissions. Set-user-id and the like stay where they are.
    mode: u32,
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
    /// Of a file.
    size: Option<u64>,
    /// Of a file, in hexadecimal.
    sum: Option<String>,
    /// Of a link: where it leads.
    target: Vec<u8>,
}

type Tree = BTreeMap<PathBuf, Seen>;

/// A tree as the guest's own programs see it.
async fn in_guest(sandbox: &Sandbox, root: &str) -> Result<Tree> {
    let listed = script(
        sandbox,
        &format!(r"cd {root} && find . -printf '%P\0%y\0%m\0%T@\0%s\0%l\0'"),
    )
    .await?;
    let summed = script(
        sandbox,
        &format!("cd {root} && find . -type f -exec sha256sum --zero {{}} +"),
    )
    .await?;
    let mut sums = BTreeMap::new();
    for line in summed
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
    {
        let (sum, path) = line.split_at_checked(64).context("a short line")?;
        let path = path.strip_prefix(b"  ./").context("a strange line")?;
        sums.insert(path, String::from_utf8(sum.to_vec())?);
    }
    let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
    let mut tree = Tree::new();
    for entry in fields.chunks_exact(6) {
        let [path, kind, mode, mtime, size, target] = entry else {
            unreachable!("there are six");
        };
        let text = |field: &[u8]| String::from_utf8(field.to_vec());
        let kind = text(kind)?.chars().next().context("no kind")?;
        let mtime = text(mtime)?;
        let (seconds, fraction) = mtime.split_once('.').context("no fraction")?;
        let nanoseconds = fraction.get(..9).context("a short fraction")?;
        let size = (kind == 'f').then(|| text(size)).transpose()?;
        let seen = Seen {
            kind,
            mode: u32::from_str_radix(&text(mode)?, 8)? & 0o777,
            mtime: (seconds.parse()?, nanoseconds.parse()?),
            size: size.map(|size| size.parse()).transpose()?,
            sum: sums.remove(path),
            target: target.to_vec(),
        };
        tree.insert(PathBuf::from(OsStr::from_bytes(path)), seen);
    }
    ensure!(sums.is_empty(), "summed and not listed: {sums:?}");
    Ok(tree)
}

/// The same of a tree on the host.
fn on_host(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let metadata = path.symlink_metadata()?;
        let kind = metadata.file_type();
        let mut seen = Seen {
            kind: match kind {
                kind if kind.is_file() => 'f',
                kind if kind.is_dir() => 'd',
                kind if kind.is_symlink() => 'l',
                kind if kind.is_fifo() => 'p',
                _ => '?',
            },
            mode: metadata.mode() & 0o777,
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: None,
            sum: None,
            target: Vec::new(),
        };
        if kind.is_dir() {
            for entry in fs::read_dir(&path)? {
                rest.push(entry?.path());
            }
        } else if kind.is_symlink() {
            seen.target = fs::read_link(&path)?.into_os_string().into_encoded_bytes();
        } else if kind.is_file() {
            seen.size = Some(metadata.len());
            seen.sum = Some(hex(Sha256::digest(fs::read(&path)?)));
        }
        tree.insert(path.strip_prefix(root)?.to_owned(), seen);
    }
    Ok(tree)
}

fn assert_same(expected: &Tree, found: &Tree, whose: &str) {
    for (path, seen) in expected {
        let other = found.get(path);
        assert_eq!(Some(seen), other, "{whose}: {}", path.display());
    }
    let paths = |tree: &Tree| tree.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        paths(expected),
        paths(found),
        "{whose}: more than there was"
    );
}

#[tokio::test]
async fn real_trees_go_to_the_host_and_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.debian("deb-trees")?.create().await?;
    let files = sandbox.fs();
    let mut kinds = BTreeSet::new();
    for tree in ["/etc", "/var/lib/dpkg"] {
        let before = in_guest(&sandbox, tree).await?;
        assert!(before.len() > 200, "{tree} has {} entries", before.len());
        kinds.extend(before.values().map(|seen| (seen.kind, seen.mode)));

        let copy = fixture.path().join("copy");
        files.copy_to_host(tree, &copy).await?;
        assert_same(&before, &on_host(&copy)?, "on the host");

        files.copy_from_host(&copy, "/root/again").await?;
        let again = in_guest(&sandbox, "/root/again").await?;
        assert_same(&before, &again, "in the guest again");
        let diff = format!("diff -r --no-dereference {tree} /root/again");
        assert_eq!(script(&sandbox, &diff).await?, b"");
        files.remove_dir("/root/again").await?;
        fs::remove_dir_all(&copy)?;
    }
    // Else less was compared than it seems.
    for wanted in [
        ('f', 0o644),
        ('f', 0o640),
        ('f', 0o755),
        ('d', 0o755),
        ('l', 0o777),
    ] {
        assert!(kinds.contains(&wanted), "{wanted:?} is not in {kinds:?}");
    }
    sandbox.stop().await?;
    Ok(())
}
