//! Images that are mapped into the memory of their sandboxes: used in place, shared by all, written to by none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use microsandbox::{Sandbox, Snapshot};
use msb_tests::archive::{Archive, Layer};
use msb_tests::memory::Processes;
use msb_tests::{PATIENCE, erofs, host, within};

use super::image::{app, at_home, load, of, patched};
use super::{Fixture, kept, prints, removed, succeeds, until};
use crate::snapshots::from;

const MIB: usize = 1 << 20;

/// The large file that images here have.
const BIG: usize = 64 * MIB;

/// Succeeds in a guest whose root is mapped: the only other disk is the writable one.
const DISKS: &str = "[ -b /dev/pmem0 ] && [ ! -e /dev/pmem1 ] && \
    [ \"$(cat /sys/block/pmem0/queue/dax)\" = 1 ] && [ $(ls /sys/block | grep -c '^vd') = 1 ]";

/// And where busybox is used in place: the kernel's mark of huge pages on the program's mapping tells.
const IN_PLACE: &str =
    "grep -A 25 ' /bin/busybox$' /proc/self/smaps | grep '^VmFlags' | grep -q ' hg'";

/// Fails unless the sandbox has its root mapped, and uses it in place.
async fn check(sandbox: &Sandbox) -> Result<()> {
    for script in [DISKS, IN_PLACE] {
        ensure!(succeeds(sandbox, script).await?, "{script}");
    }
    Ok(())
}

/// Bytes that are not the same anywhere.
fn big() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut bytes = vec![0; BIG];
    random.fill(&mut bytes);
    bytes
}

fn digest(bytes: &[u8]) -> String {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Busybox, and a layer with the large file.
fn with_big(bytes: &[u8]) -> Result<Archive> {
    let big = Layer::new().file("srv/big", bytes, 0o644)?;
    Archive::new().layer(Layer::busybox()?)?.layer(big)
}

/// Adds a program of this host and the libraries that it is linked with.
fn with_program(mut layer: Layer, program: &str) -> Result<Layer> {
    let output = Command::new("ldd").arg(program).output()?;
    let listed = String::from_utf8(output.stdout)?;
    let mut files = BTreeSet::from([program]);
    files.extend(
        listed
            .split_whitespace()
            .filter(|word| word.starts_with('/')),
    );
    ensure!(files.len() > 2, "{program} has no libraries: {listed}");
    for file in files {
        let path = file.trim_start_matches('/');
        layer = layer.file(path, &fs::read(file)?, 0o755)?;
    }
    Ok(layer)
}

/// What a VMM has mapped, in KiB.
#[derive(Clone, Copy, Debug, Default)]
struct Mapped {
    /// Of the data of layers: what is in memory.
    resident: u64,
    /// The VMM's part of that.
    proportional: u64,
    /// Copies of its own of what is in files.
    copied: u64,
    /// What is of no file: its own memory, and its guest's.
    anonymous: u64,
}

/// What the VMM of a sandbox has mapped.
fn mapped_by(sandbox: &Sandbox) -> Result<Mapped> {
    let vmm = Processes::of(sandbox)?.vmm;
    let smaps = fs::read_to_string(format!("/proc/{vmm}/smaps"))?;
    let (mut mapped, mut of_a_layer) = (Mapped::default(), false);
    for line in smaps.lines() {
        // A mapping begins with its addresses, and its file is last.
        let first = line.split(' ').next();
        if first.is_some_and(|first| first.contains('-')) {
            of_a_layer = line.ends_with("/data");
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let Some(value) = value.trim().strip_suffix(" kB") else {
            continue;
        };
        let kib: u64 = value.parse()?;
        match (name, of_a_layer) {
            ("Rss", true) => mapped.resident += kib,
            ("Pss", true) => mapped.proportional += kib,
            ("Anonymous", true) => mapped.copied += kib,
            ("Anonymous", false) => mapped.anonymous += kib,
            _ => {}
        }
    }
    Ok(mapped)
}

/// The data of the layer that has the large file.
fn data_of_big(home: &Path) -> Result<PathBuf> {
    let layers = fs::read_dir(home.join("images/layers"))?.flatten();
    let data = layers.map(|layer| layer.path().join("data"));
    let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.len() >= BIG as u64);
    data.into_iter().find(large).context("no layer is as large")
}

#[tokio::test]
async fn programs_and_their_libraries_run_from_it() -> Result<()> {
    at_home(async |home, local| {
        let base = with_program(Layer::busybox()?, "/usr/bin/perl")?;
        load(home, local, Archive::new().layer(base)?).await?;
        let sandbox = within(of("programs").create()).await?;
        check(&sandbox).await?;
        let root = r#"perl -e 'printf "%.3f\n", sqrt(2)'"#;
        assert_eq!(prints(&sandbox, root).await?, "1.414\n");
        // A library is mapped with the rights that it is to have, and its data can be written by the program.
        let look = r#"perl -e 'open F, "/proc/self/maps"; print grep { /libc\.so/ } <F>'"#;
        let maps = prints(&sandbox, look).await?;
        for access in [" r--p ", " r-xp ", " rw-p "] {
            assert!(maps.contains(access), "{access}: {maps}");
        }
        // What is changed is the sandbox's own, and runs as well.
        let change = "cp /usr/bin/perl /srv-perl && echo more >> /usr/bin/perl && \
                      ! cmp -s /srv-perl /usr/bin/perl && /srv-perl -e 'print 1' && perl -e 'print 2'";
        assert_eq!(prints(&sandbox, change).await?, "12");
        removed(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn a_file_of_it_takes_none_of_the_guests_memory() -> Result<()> {
    at_home(async |home, local| {
        let bytes = big();
        load(home, local, with_big(&bytes)?).await?;
        let sandbox = within(of("in-place").create()).await?;
        check(&sandbox).await?;
        let cached = r"sed -n 's/^Cached: *\([0-9]*\) kB/\1/p' /proc/meminfo";
        let before: u64 = prints(&sandbox, cached).await?.trim().parse()?;
        for _ in 0..2 {
            let said = prints(&sandbox, "sha256sum < /srv/big").await?;
            assert!(said.starts_with(&digest(&bytes)), "{said}");
        }
        let after: u64 = prints(&sandbox, cached).await?.trim().parse()?;
        assert!(
            after < before + 16 * 1024,
            "{before} KiB before, {after} KiB after"
        );
        removed(&sandbox).await
    })
    .await
}

/// A program maps a file of the image and writes it elsewhere past the cache: the disk's thread takes the bytes from the
/// host's page cache.
#[tokio::test]
async fn it_is_written_elsewhere_from_where_it_is() -> Result<()> {
    at_home(async |home, local| {
        let bytes = big();
        let program = with_program(Layer::new(), "/usr/bin/perl")?;
        load(home, local, with_big(&bytes)?.layer(program)?).await?;
        let sandbox = within(of("direct").create()).await?;
        check(&sandbox).await?;
        // mmap(0, length, PROT_READ, MAP_PRIVATE, file, 0), and write(to, that, length) with O_DIRECT.
        let script = r#"cat > /tmp/direct.pl <<'END'
my $length = 8 << 20;
open(my $file, '<', '/srv/big') or die "open: $!";
sysopen(my $to, '/srv/copy', 0x4000 | 0101, 0600) or die "sysopen: $!";
my $at = syscall(9, 0, $length, 1, 2, fileno($file), 0);
die "mmap: $!" if $at == -1;
my $done = syscall(1, fileno($to), $at, $length);
die "write: $done $!" if $done != $length;
END
perl /tmp/direct.pl && sync && echo 3 > /proc/sys/vm/drop_caches && sha256sum < /srv/copy"#;
        let said = prints(&sandbox, script).await?;
        assert!(said.starts_with(&digest(&bytes[..8 * MIB])), "{said}");
        removed(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn what_a_guest_writes_to_the_device_is_nowhere() -> Result<()> {
    at_home(async |home, local| {
        let bytes = big();
        load(home, local, with_big(&bytes)?).await?;
        let data = data_of_big(home)?;
        let before = digest(&fs::read(&data)?);
        let one = within(of("writer").create()).await?;
        let two = within(of("reader").create()).await?;
        check(&one).await?;
        // Far behind the metadata: it is the large file's.
        let write = "dd if=/dev/urandom of=/dev/pmem0 bs=4096 seek=8192 count=8 conv=fsync,notrunc 2>/dev/null";
        // Our kernel refuses it while the disk is mounted; another one may not.
        succeeds(&one, write).await?;
        prints(&one, "sync; echo 3 > /proc/sys/vm/drop_caches").await?;
        for sandbox in [&one, &two] {
            let said = prints(sandbox, "sha256sum < /srv/big").await?;
            assert!(said.starts_with(&digest(&bytes)), "{said}");
        }
        assert_eq!(digest(&fs::read(&data)?), before);
        let mapped = mapped_by(&one)?;
        assert_eq!(mapped.copied, 0, "{mapped:?}");
        removed(&one).await?;
        removed(&two).await
    })
    .await
}

/// A sandbox with patches has metadata of its own, which a snapshot does not have: it is made anew beneath what is written.
#[tokio::test]
async fn what_begins_from_a_snapshot_has_it_mapped_with_its_patches() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let parent = within(patched("parent").create()).await?;
        check(&parent).await?;
        let look = "cat /etc/app/conf /srv/text; ls /srv/large 2>/dev/null; cat /srv/kept";
        let expected = "on\nfrom the app\nand more\nkept\n";
        prints(&parent, "echo kept > /srv/kept").await?;
        assert_eq!(prints(&parent, look).await?, expected);
        within(parent.stop_with_timeout(PATIENCE)).await?;
        within(Snapshot::builder("parent").name("base").create()).await?;
        Sandbox::remove("parent").await?;
        let child = within(from("base", "child").create()).await?;
        check(&child).await?;
        assert_eq!(prints(&child, look).await?, expected);
        removed(&child).await
    })
    .await
}

#[tokio::test]
async fn two_sandboxes_have_one_copy_on_the_host() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, with_big(&big())?).await?;
        let one = within(of("share-1").create()).await?;
        let two = within(of("share-2").create()).await?;
        let mut before = Vec::new();
        for sandbox in [&one, &two] {
            check(sandbox).await?;
            before.push(mapped_by(sandbox)?.anonymous);
        }
        for sandbox in [&one, &two] {
            prints(sandbox, "cat /srv/big > /dev/null; wc -c < /srv/big").await?;
        }
        let big = u64::try_from(BIG)? / 1024;
        let mut proportional = 0;
        for (sandbox, before) in [&one, &two].into_iter().zip(before) {
            let mapped = mapped_by(sandbox)?;
            // Each has all of it, and nothing for itself: neither in its guest's memory nor beside it.
            assert!(mapped.resident >= big, "{mapped:?}");
            assert_eq!(mapped.copied, 0, "{mapped:?}");
            assert!(
                mapped.anonymous < before + 24 * 1024,
                "{before} KiB before, now {mapped:?}"
            );
            proportional += mapped.proportional;
        }
        assert!(proportional < big + 24 * 1024, "{proportional} KiB");
        removed(&one).await?;
        removed(&two).await
    })
    .await
}

#[tokio::test]
async fn shared_pages_are_not_the_sandboxs_memory() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, with_big(&big())?).await?;
        let sandbox = within(of("metrics-shared").create()).await?;
        let work = "cat /srv/big > /dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        prints(&sandbox, work).await?;
        let mapped = mapped_by(&sandbox)?;
        assert!(mapped.resident >= u64::try_from(BIG)? / 1024, "{mapped:?}");
        until("a sample", async || {
            prints(&sandbox, work).await?;
            let Ok(sample) = sandbox.metrics().await else {
                return Ok(false);
            };
            let resident = sample.memory_host_resident_bytes.context("it is known")?;
            // What was anonymous then, and what has come since; not the file.
            assert!(
                resident < (mapped.anonymous + 32 * 1024) * 1024,
                "{resident}, {mapped:?}"
            );
            Ok(true)
        })
        .await?;
        removed(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn disk_images_are_mapped_too() -> Result<()> {
    let fixture = super::fixture()?;
    let sandbox = within(kept(&fixture, "root.erofs", "mapped-disk").create()).await?;
    // As mkfs.erofs lays files out, those that end within a block are not used in place.
    assert!(succeeds(&sandbox, DISKS).await?);
    assert_eq!(prints(&sandbox, "cat /srv/text").await?, "from the image\n");
    removed(&sandbox).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn one_whose_pages_would_fill_the_guests_memory_is_attached() -> Result<()> {
    let fixture = Fixture::new()?;
    let disk = erofs::make(&fixture.path().join("long.erofs"), |_| Ok(()))?;
    // More than eight times the guest's memory; there is nothing in it.
    let file = fs::OpenOptions::new().write(true).open(&disk)?;
    file.set_len((1 << 30) + 4096)?;
    let sandbox = within(kept(&fixture, "long.erofs", "attached").create()).await?;
    let disks = "[ ! -e /dev/pmem0 ] && [ $(ls /sys/block | grep -c '^vd') = 2 ]";
    assert!(succeeds(&sandbox, disks).await?);
    removed(&sandbox).await?;
    host::nothing_left().await
}
