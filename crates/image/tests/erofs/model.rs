//! Trees and their data blobs, made by hand or by chance, and what a disk of them must show.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use msb_image::Digest;
use msb_image::erofs::{Joined, Options, Plan, ReadAt, Reader};
use msb_image::limits::{BLOCK, Limits};
use msb_image::node::{Attributes, Content, Device, Kind, Node, Piece, Xattr};
use msb_image::tree::{FileContent, InodeId, Tree};
use proptest::collection::vec;
use proptest::prelude::*;

/// A block, in memory.
pub(crate) const WHOLE: usize = 4096;

/// An image before it is a disk.
pub(crate) struct Model {
    pub(crate) tree: Tree,
    /// The data blobs of its layers.
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Model {
    /// Its names: what is in files would fill screens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes = self.tree.walk().map(|(path, id)| {
            let node = &self.tree.inode(id).node;
            (path.escape_ascii().to_string(), id.index(), &node.kind)
        });
        f.debug_list().entries(nodes).finish()
    }
}

impl Model {
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            tree: Tree::default(),
            blobs: vec![Vec::new(); layers],
        }
    }

    pub(crate) fn put(&mut self, at: InodeId, name: &[u8], kind: Kind<FileContent>) -> InodeId {
        self.put_with(at, name, Attributes::default(), kind)
    }

    pub(crate) fn put_with(
        &mut self,
        at: InodeId,
        name: &[u8],
        attributes: Attributes,
        kind: Kind<FileContent>,
    ) -> InodeId {
        self.tree
            .insert(at, name, Node { attributes, kind })
            .unwrap()
    }

    /// Puts bytes into a layer's data blob, as one piece.
    pub(crate) fn data(&mut self, layer: usize, bytes: &[u8]) -> Kind<FileContent> {
        self.sparse(layer, &[Some(bytes)])
    }

    /// Puts stretches into a layer's data blob, each of whole blocks except the last. `None` is a block of
    /// zeros that are nowhere.
    pub(crate) fn sparse(&mut self, layer: usize, parts: &[Option<&[u8]>]) -> Kind<FileContent> {
        let blob = &mut self.blobs[layer];
        let mut content = Content::default();
        for part in parts {
            match part {
                None => content.size += BLOCK,
                Some([]) => {}
                Some(bytes) => {
                    content.pieces.push(Piece {
                        at: content.size,
                        blob: blob.len() as u64,
                        len: bytes.len() as u64,
                    });
                    content.size += bytes.len() as u64;
                    blob.extend_from_slice(bytes);
                    blob.resize(blob.len().next_multiple_of(WHOLE), 0);
                }
            }
        }
        Kind::File(FileContent { layer, content })
    }

    pub(crate) fn blob_sizes(&self) -> Vec<u64> {
        self.blobs.iter().map(|blob| blob.len() as u64).collect()
    }

    pub(crate) fn plan(&self) -> Plan<'_> {
        Plan::new(&self.tree, &self.blob_sizes(), &options()).unwrap()
    }

    pub(crate) fn metadata(&self) -> Vec<u8> {
        let plan = self.plan();
        let mut metadata = Vec::new();
        plan.write(&mut metadata).unwrap();
        assert_eq!(metadata.len() as u64, plan.disk().metadata_bytes());
        metadata
    }

    /// The whole disk.
    pub(crate) fn disk(&self) -> Joined<Vec<u8>> {
        let parts = std::iter::once(self.metadata()).chain(self.blobs.iter().cloned());
        Joined::new(parts).unwrap()
    }

    pub(crate) fn disk_bytes(&self) -> Vec<u8> {
        [self.metadata(), self.blobs.concat()].concat()
    }

    /// The bytes of a file.
    pub(crate) fn contents(&self, file: &FileContent) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(file.content.size).unwrap()];
        for piece in &file.content.pieces {
            let [at, blob, len] =
                [piece.at, piece.blob, piece.len].map(|n| usize::try_from(n).unwrap());
            all[at..at + len].copy_from_slice(&self.blobs[file.layer][blob..blob + len]);
        }
        all
    }

    /// Compares a disk with all that the model has, names, order, hard links and bytes.
    pub(crate) fn compare<S: ReadAt>(&self, reader: &Reader<S>) {
        let mut numbers: HashMap<InodeId, u64> = HashMap::new();
        let mut expected = self.tree.walk();
        for found in reader.walk(&Limits::default()) {
            let (path, inode) = found.unwrap();
            let (wanted, id) = expected.next().expect("no more names than there are");
            assert_eq!(path, wanted);
            assert_eq!(
                *numbers.entry(id).or_insert(inode.nid),
                inode.nid,
                "{path:?}"
            );
            let node = &self.tree.inode(id).node;
            let found = reader.node(&inode).unwrap();
            assert_eq!(found.attributes, kept(&node.attributes), "{path:?}");
            let kind = node.kind.map(|file| {
                let mut bytes = vec![0xaa; usize::try_from(inode.size).unwrap() + 1];
                let read = reader.read(&inode, 0, &mut bytes).unwrap();
                assert_eq!(bytes[..read], self.contents(file), "{path:?}");
                file.content.size
            });
            assert_eq!(found.kind, kind, "{path:?}");
            if node.kind != Kind::Directory {
                assert_eq!(inode.links, self.tree.links(id), "{path:?}");
            }
            assert_eq!(
                reader.find(&path).unwrap().map(|found| found.nid),
                Some(inode.nid)
            );
        }
        assert!(expected.next().is_none());
        let checked = reader.check(&Limits::default()).unwrap();
        assert_eq!(checked.names, self.tree.names());
        assert_eq!(checked.inodes, numbers.len() as u64);
    }
}

pub(crate) fn options() -> Options {
    Options::new(Digest::of(b"an image"))
}

/// Attributes without what an EROFS cannot have.
fn kept(attributes: &Attributes) -> Attributes {
    let mut kept = attributes.clone();
    kept.xattrs
        .retain(|xattr| !xattr.name.starts_with(b"other."));
    kept
}

pub(crate) fn installed(tool: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|dir| dir.join(tool).is_file())
    });
    if !found {
        println!("skipped: {tool} is not installed (`cargo xtask setup` says how)");
    }
    found
}

/// Runs a tool that must succeed.
pub(crate) fn run(tool: &str, arguments: &[&str], paths: &[&Path]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(tool)
        .args(arguments)
        .args(paths)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{tool}: {said}");
    said
}

/// What may be in a generated tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Any {
    /// Devices, which not everybody may make.
    pub(crate) devices: bool,
    /// Times, owners and modes that are not for every file system.
    pub(crate) extremes: bool,
}

/// Any image.
pub(crate) fn models(any: Any) -> impl Strategy<Value = Model> {
    let root = attributes(any);
    let node = (name(), 0usize..1000, attributes(any), what(any));
    (root, vec(node, 0..60)).prop_map(|(root, nodes)| {
        let mut model = Model::new(3);
        model.tree.set_attributes(model.tree.root(), root);
        let mut directories = vec![(model.tree.root(), 0)];
        let mut others = Vec::new();
        for (name, which, attributes, what) in nodes {
            let (at, depth) = directories[which % directories.len()];
            if model.tree.inode(at).children.contains_key(&name) {
                continue;
            }
            let kind = match what {
                What::Link(_) if others.is_empty() => continue,
                What::Link(which) => {
                    let target = others[which % others.len()];
                    model.tree.link(at, &name, target).unwrap();
                    continue;
                }
                What::Kind(kind) => kind,
                What::File(layer, parts) => {
                    let parts: Vec<_> = parts.iter().map(Option::as_deref).collect();
                    model.sparse(layer, &parts)
                }
                What::Many(count, length) => {
                    let many = model.put_with(at, &name, attributes, Kind::Directory);
                    let kind = model.data(0, b"x");
                    let file = model.put(many, b"one", kind);
                    for n in 0..count {
                        let name = format!("{n:0length$}");
                        model.tree.link(many, name.as_bytes(), file).unwrap();
                    }
                    continue;
                }
            };
            let directory = kind == Kind::Directory;
            let id = model.put_with(at, &name, attributes, kind);
            match directory {
                // Paths must be short enough for the tools.
                true if depth < 8 => directories.push((id, depth + 1)),
                true => {}
                false => others.push(id),
            }
        }
        model
    })
}

#[derive(Clone, Debug)]
enum What {
    Kind(Kind<FileContent>),
    File(usize, Vec<Option<Vec<u8>>>),
    Link(usize),
    Many(usize, usize),
}

fn what(any: Any) -> impl Strategy<Value = What> {
    let target = prop_oneof![
        4 => vec(1..=255u8, 1..100),
        1 => vec(1..=255u8, 3900..=4095),
    ];
    let device = (0u32..1 << 12, 0u32..1 << 20).prop_map(|(major, minor)| Device { major, minor });
    let devices = u32::from(any.devices);
    prop_oneof![
        6 => Just(What::Kind(Kind::Directory)),
        6 => (0usize..3, parts()).prop_map(|(layer, parts)| What::File(layer, parts)),
        3 => target.prop_map(|target| What::Kind(Kind::Symlink(target))),
        3 => (0usize..1000).prop_map(What::Link),
        1 => (0usize..200, 1usize..=255).prop_map(|(count, length)| What::Many(count, length)),
        1 => Just(What::Kind(Kind::Fifo)),
        1 => Just(What::Kind(Kind::Socket)),
        devices => device.clone().prop_map(|device| What::Kind(Kind::CharDevice(device))),
        devices => device.prop_map(|device| What::Kind(Kind::BlockDevice(device))),
    ]
}

/// The parts of a file: blocks and holes, and a rest.
fn parts() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let block = any::<u8>().prop_map(|byte| Some(vec![byte; WHOLE]));
    let part = prop_oneof![3 => block, 1 => Just(None)];
    let rest = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..5000)];
    (vec(part, 0..9), rest).prop_map(|(mut parts, rest)| {
        let whole = rest.len() / WHOLE * WHOLE;
        parts.push(Some(rest[..whole].to_vec()));
        parts.push(Some(rest[whole..].to_vec()));
        parts
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![1..=46u8, 48..=255u8];
    let near = [&b"!"[..], b"..a", b".+", b".a", b"...", b"-", b"0"].map(<[u8]>::to_vec);
    prop_oneof![
        4 => "[a-c]{1,3}".prop_map(String::into_bytes),
        2 => vec(bytes.clone(), 1..20),
        1 => vec(bytes, 255),
        1 => proptest::sample::select(near.to_vec()),
    ]
    .prop_filter("reserved", |name| !matches!(name.as_slice(), b"." | b".."))
}

fn attributes(any: Any) -> impl Strategy<Value = Attributes> {
    let (ids, times) = match any.extremes {
        // The last number is nobody's.
        true => (0..=u32::MAX - 1, i64::MIN..=i64::MAX),
        false => (0..=70_000, -1_000_000..=1i64 << 33),
    };
    let modes: u16 = if any.extremes { 0o7777 } else { 0o777 };
    let xattrs = prop_oneof![4 => Just(Vec::new()), 1 => xattrs()];
    (
        0..=modes,
        ids.clone(),
        ids,
        times,
        0u32..1_000_000_000,
        xattrs,
    )
        .prop_map(|(mode, uid, gid, mtime, mtime_nsec, xattrs)| Attributes {
            mode,
            uid,
            gid,
            mtime,
            mtime_nsec,
            xattrs,
        })
}

/// Values are such as the kernel takes for what their names say.
fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let any_value = prop_oneof![
        3 => Just(b"what many have".to_vec()),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(any::<u8>(), 3000..5000),
    ];
    let capability = vec(any::<u8>(), 16).prop_map(|sets| [&[1, 0, 0, 2][..], &sets].concat());
    let user = (0..=7u8, 0..100u8).prop_map(|(may, id)| [2, 0, may, 0, id, 0, 0, 0]);
    let acl = vec(user, 0..5).prop_map(|users| {
        let everybody = |tag, may| [tag, 0, may, 0, 0xff, 0xff, 0xff, 0xff];
        let rest = [everybody(4, 5), everybody(0x10, 7), everybody(0x20, 4)];
        [
            &[2, 0, 0, 0][..],
            &everybody(1, 6),
            users.as_flattened(),
            rest.as_flattened(),
        ]
        .concat()
    });
    let named = |name: &'static str, value: BoxedStrategy<Vec<u8>>| {
        let xattr = value.prop_map(move |value| Xattr {
            name: name.into(),
            value,
        });
        proptest::option::weighted(0.3, xattr)
    };
    let all = [
        named("other.o", any_value.clone().boxed()),
        named("security.capability", capability.boxed()),
        named("security.test", any_value.clone().boxed()),
        named("system.posix_acl_access", acl.clone().boxed()),
        named("system.posix_acl_default", acl.boxed()),
        named("trusted.t", any_value.clone().boxed()),
        named("user.u", any_value.boxed()),
    ];
    Vec::from(all).prop_map(|all| all.into_iter().flatten().collect())
}
