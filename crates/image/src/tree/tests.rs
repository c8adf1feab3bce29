//! Trees by example: each rule of merging, and what a guest would then see.

use super::*;
use crate::layer::{Action, Change, Layer};
use crate::limits::Limits;
use crate::node::Piece;

/// A layer with these changes.
fn layer(changes: &[(&str, Action)]) -> Layer {
    let changes = changes.iter().map(|(path, action)| Change {
        path: path.as_bytes().to_vec(),
        action: action.clone(),
    });
    Layer {
        changes: changes.collect(),
        data_bytes: 1 << 20,
    }
}

fn put(kind: Kind<Content>, mode: u16) -> Action {
    let attributes = Attributes {
        mode,
        ..Attributes::default()
    };
    Action::Put(Node { attributes, kind })
}

/// A file, told from others by where its bytes are.
fn file(block: u64) -> Action {
    let piece = Piece {
        at: 0,
        blob: block * 4096,
        len: 10,
    };
    let content = Content {
        size: 10,
        pieces: vec![piece],
    };
    put(Kind::File(content), 0o644)
}

fn directory(mode: u16) -> Action {
    put(Kind::Directory, mode)
}

fn symlink(target: &str) -> Action {
    put(Kind::Symlink(target.as_bytes().to_vec()), 0o777)
}

fn link(target: &str) -> Action {
    Action::Link {
        target: target.as_bytes().to_vec(),
    }
}

fn merge(layers: &[&[(&str, Action)]]) -> Result<Tree, TreeError> {
    let layers: Vec<_> = layers.iter().map(|changes| layer(changes)).collect();
    Tree::merge(&layers, &Limits::default())
}

/// What a tree is, a line for each name: files as `layer.block`, directories by their mode.
fn listing(tree: &Tree) -> Vec<String> {
    tree.walk()
        .skip(1)
        .map(|(path, id)| {
            let node = &tree.inode(id).node;
            let what = match &node.kind {
                Kind::File(file) => {
                    let block = file.content.pieces[0].blob / 4096;
                    format!("={}.{block}", file.layer)
                }
                Kind::Directory => format!("/ {:o}", node.attributes.mode),
                Kind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
                other => format!(" {other:?}"),
            };
            format!("{}{what}", String::from_utf8_lossy(&path))
        })
        .collect()
}

#[track_caller]
fn merges_to(layers: &[&[(&str, Action)]], lines: &[&str]) {
    assert_eq!(listing(&merge(layers).unwrap()), lines);
}

#[test]
fn an_image_without_layers_is_an_empty_root() {
    let tree = merge(&[]).unwrap();
    assert_eq!(tree, Tree::default());
    assert_eq!(tree.inode(tree.root()).node.attributes.mode, 0o755);
    assert_eq!(tree.links(tree.root()), 1);
}

#[test]
fn the_entry_of_the_root_sets_its_attributes() {
    let tree = merge(&[&[("a", file(0)), ("", directory(0o1777))]]).unwrap();
    assert_eq!(tree.inode(tree.root()).node.attributes.mode, 0o1777);
    assert_eq!(listing(&tree), ["a=0.0"]);
}

#[test]
fn upper_files_replace_lower_ones() {
    merges_to(
        &[
            &[("d/a", file(0)), ("d/b", file(1))],
            &[("d/b", file(0)), ("c", file(1))],
        ],
        &["c=1.1", "d/ 755", "d/a=0.0", "d/b=1.0"],
    );
}

#[test]
fn directories_keep_what_is_in_them_and_take_new_attributes() {
    merges_to(
        &[
            &[("d", directory(0o700)), ("d/a", file(0))],
            &[("d", directory(0o750))],
        ],
        &["d/ 750", "d/a=0.0"],
    );
}

#[test]
fn a_file_in_place_of_a_directory_removes_all_in_it() {
    let layers: &[&[_]] = &[&[("d/e/a", file(0)), ("d/b", file(1))], &[("d", file(0))]];
    merges_to(layers, &["d=1.0"]);
    let tree = merge(layers).unwrap();
    assert_eq!(
        (tree.names(), tree.slots(), tree.inodes().count()),
        (2, 2, 2)
    );
}

#[test]
fn a_directory_in_place_of_a_file_is_new() {
    merges_to(
        &[
            &[("d", file(0))],
            &[("d", directory(0o711)), ("d/a", file(0))],
        ],
        &["d/ 711", "d/a=1.0"],
    );
}

#[test]
fn a_directory_in_place_of_a_symbolic_link_is_new() {
    merges_to(
        &[
            &[("usr/lib/a", file(0)), ("lib", symlink("usr/lib"))],
            &[("lib", directory(0o755)), ("lib/b", file(0))],
        ],
        &[
            "lib/ 755",
            "lib/b=1.0",
            "usr/ 755",
            "usr/lib/ 755",
            "usr/lib/a=0.0",
        ],
    );
}

#[test]
fn whiteouts_remove_files_and_whole_directories() {
    merges_to(
        &[
            &[("a", file(0)), ("d/e/b", file(1)), ("d/c", file(2))],
            &[("a", Action::Whiteout), ("d/e", Action::Whiteout)],
        ],
        &["d/ 755", "d/c=0.2"],
    );
}

#[test]
fn whiteouts_of_what_is_not_there_do_nothing() {
    merges_to(
        &[
            &[("a", file(0))],
            &[
                ("b", Action::Whiteout),
                ("x/y", Action::Whiteout),
                ("a/b", Action::Whiteout),
            ],
            &[("x", Action::Opaque), ("a", Action::Opaque)],
        ],
        &["a=0.0"],
    );
}

#[test]
fn an_entry_beside_its_whiteout_stays_in_either_order() {
    let lower: &[_] = &[("a", file(0)), ("d/lower", file(1))];
    let d = ("d", directory(0o700));
    let inner = ("d/upper", file(1));
    let (hide_a, hide_d) = (("a", Action::Whiteout), ("d", Action::Whiteout));
    let lines = ["a=1.0", "d/ 700", "d/upper=1.1"];
    let a = ("a", file(0));
    merges_to(
        &[
            lower,
            &[
                hide_a.clone(),
                hide_d.clone(),
                a.clone(),
                d.clone(),
                inner.clone(),
            ],
        ],
        &lines,
    );
    merges_to(&[lower, &[a, d, inner, hide_a, hide_d]], &lines);
}

#[test]
fn opaque_directories_hide_what_is_below_and_not_what_is_beside() {
    let lower: &[_] = &[("d/a", file(0)), ("d/e/b", file(1)), ("d/f/c", file(2))];
    let lines = ["d/ 755", "d/e/ 755", "d/e/new=1.1", "d/new=1.0"];
    let (new, deep) = (("d/new", file(0)), ("d/e/new", file(1)));
    let opaque = ("d", Action::Opaque);
    merges_to(
        &[lower, &[opaque.clone(), new.clone(), deep.clone()]],
        &lines,
    );
    merges_to(
        &[lower, &[new.clone(), opaque.clone(), deep.clone()]],
        &lines,
    );
    merges_to(&[lower, &[new, deep, opaque.clone(), opaque]], &lines);
}

#[test]
fn an_opaque_directory_that_replaces_a_link_leaves_the_links_target_alone() {
    // What an overlay's upper directory becomes when a link was replaced by a directory.
    merges_to(
        &[
            &[("usr/lib/a", file(0)), ("lib", symlink("usr/lib"))],
            &[
                ("lib", directory(0o755)),
                ("lib", Action::Opaque),
                ("lib/b", file(0)),
            ],
        ],
        &[
            "lib/ 755",
            "lib/b=1.0",
            "usr/ 755",
            "usr/lib/ 755",
            "usr/lib/a=0.0",
        ],
    );
}

#[test]
fn hard_links_are_one_inode() {
    let tree = merge(&[&[("a", file(0)), ("d/b", link("a")), ("c", link("d/b"))]]).unwrap();
    let id = tree.lookup(b"a").unwrap();
    assert_eq!(tree.lookup(b"d/b"), Some(id));
    assert_eq!(tree.lookup(b"c"), Some(id));
    assert_eq!(tree.links(id), 3);
    assert_eq!(tree.inodes().count(), 3);
}

#[test]
fn hard_links_reach_lower_layers_and_outlive_their_targets() {
    let lower: &[_] = &[("a", file(0))];
    let tree = merge(&[lower, &[("b", link("a"))], &[("a", file(0))]]).unwrap();
    assert_eq!(listing(&tree), ["a=2.0", "b=0.0"]);
    assert_eq!(tree.links(tree.lookup(b"b").unwrap()), 1);

    merges_to(
        &[lower, &[("b", link("a")), ("a", file(5))]],
        &["a=1.5", "b=0.0"],
    );
    merges_to(
        &[lower, &[("b", link("a")), ("a", Action::Whiteout)]],
        &["b=0.0"],
    );
    merges_to(&[lower, &[("a", link("a"))]], &["a=0.0"]);
    // The link takes the place of the directory that it leads into.
    merges_to(&[&[("d/a", file(0))], &[("d", link("d/a"))]], &["d=0.0"]);
}

#[test]
fn hard_links_to_symbolic_links_are_the_links_themselves() {
    let tree = merge(&[&[("a", symlink("nowhere")), ("b", link("a"))]]).unwrap();
    assert_eq!(listing(&tree), ["a -> nowhere", "b -> nowhere"]);
    assert_eq!(tree.lookup(b"a"), tree.lookup(b"b"));
}

#[test]
fn hard_links_to_nothing_or_to_directories_are_refused() {
    let nothing = merge(&[&[("a", link("b"))]]);
    assert!(
        matches!(nothing, Err(TreeError::LinkToNothing { .. })),
        "{nothing:?}"
    );
    let directory = merge(&[&[("d", directory(0o755)), ("a", link("d"))]]);
    assert!(
        matches!(directory, Err(TreeError::LinkToDirectory { .. })),
        "{directory:?}"
    );
    let root = merge(&[&[("a", link(""))]]);
    assert!(
        matches!(root, Err(TreeError::LinkToDirectory { .. })),
        "{root:?}"
    );
}

#[test]
fn paths_through_symbolic_links_stay_in_the_tree() {
    let lower: &[_] = &[
        ("usr/lib/a", file(0)),
        ("lib", symlink("usr/lib")),
        ("absolute", symlink("/usr/lib")),
        ("escape", symlink("../../../usr")),
    ];
    let upper: &[_] = &[
        ("lib/b", file(0)),
        ("absolute/c", file(1)),
        ("escape/lib/d", file(2)),
        ("lib/a", Action::Whiteout),
        ("e", link("lib/b")),
    ];
    merges_to(
        &[lower, upper],
        &[
            "absolute -> /usr/lib",
            "e=1.0",
            "escape -> ../../../usr",
            "lib -> usr/lib",
            "usr/ 755",
            "usr/lib/ 755",
            "usr/lib/b=1.0",
            "usr/lib/c=1.1",
            "usr/lib/d=1.2",
        ],
    );
}

#[test]
fn directories_that_a_dangling_link_names_are_made() {
    merges_to(
        &[&[("lib", symlink("gone/../usr/lib")), ("lib/a", file(0))]],
        &[
            "lib -> gone/../usr/lib",
            "usr/ 755",
            "usr/lib/ 755",
            "usr/lib/a=0.0",
        ],
    );
}

#[test]
fn what_is_in_a_file_or_behind_a_loop_is_refused() {
    let file = merge(&[&[("a", file(0)), ("a/b", file(1))]]);
    assert!(matches!(file, Err(TreeError::NotADirectory(_))), "{file:?}");
    let file = merge(&[&[("a", self::file(0)), ("a/b/c", self::file(1))]]);
    let reason = ResolveError::NotADirectory;
    assert!(matches!(&file, Err(TreeError::Unreachable { source, .. }) if *source == reason));
    let around = merge(&[&[
        ("a", symlink("b")),
        ("b", symlink("a")),
        ("a/c", self::file(0)),
    ]]);
    let reason = ResolveError::TooManyLinks;
    assert!(matches!(&around, Err(TreeError::Unreachable { source, .. }) if *source == reason));
}

#[test]
fn the_root_cannot_be_replaced_or_removed() {
    for action in [file(0), Action::Whiteout, link("a"), symlink("a")] {
        let root = merge(&[&[("a", file(0))], &[("", action)]]);
        assert_eq!(root, Err(TreeError::RootReplaced));
    }
}

#[test]
fn what_is_behind_a_guests_path_is_found_as_the_guest_would() {
    let tree = merge(&[&[
        ("etc/passwd", file(0)),
        ("e", symlink("/etc/../etc/./")),
        ("f", symlink("e/passwd")),
        ("up", symlink("..")),
        ("loop", symlink("loop/x")),
    ]])
    .unwrap();
    let passwd = tree.lookup(b"etc/passwd");
    assert!(passwd.is_some());
    for path in [
        "/etc/passwd",
        "f",
        "e/passwd",
        "up/up/f",
        "../../etc//passwd",
        "etc/./passwd",
    ] {
        assert_eq!(tree.resolve(path.as_bytes()), Ok(passwd), "{path}");
    }
    assert_eq!(tree.resolve(b"up"), Ok(Some(tree.root())));
    assert_eq!(tree.resolve(b"etc/shadow"), Ok(None));
    assert_eq!(tree.resolve(b"f/x"), Err(ResolveError::NotADirectory));
    assert_eq!(tree.resolve(b"f/."), Err(ResolveError::NotADirectory));
    assert_eq!(tree.resolve(b"loop"), Err(ResolveError::TooManyLinks));
    assert_ne!(tree.lookup(b"f"), passwd);
}

#[test]
fn limits_hold_after_links_are_followed() {
    let limits = Limits {
        tree_entries: 8,
        depth: 4,
        path_bytes: 12,
        ..Limits::default()
    };
    let merge = |changes: &[(&str, Action)]| Tree::merge([&layer(changes)], &limits);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (name, file(0)));
    assert!(merge(&names[..7]).is_ok());
    assert_eq!(merge(&names), Err(TreeError::TooManyEntries(8)));
    // A hard link's name counts as well.
    let links: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, (name, _))| (*name, if n == 0 { file(0) } else { link("a") }))
        .collect();
    assert_eq!(merge(&links), Err(TreeError::TooManyEntries(8)));
    // What replaces something does not.
    assert!(merge(&vec![("a", file(0)); 20]).is_ok());

    assert!(merge(&[("a/b/c/d", file(0))]).is_ok());
    let deep = merge(&[("s", symlink("a/b/c")), ("s/d/e", file(0))]);
    assert!(
        matches!(deep, Err(TreeError::TooDeep { limit: 4, .. })),
        "{deep:?}"
    );
    let long = merge(&[("s", symlink("aaaaaaaaaa")), ("s/bb", file(0))]);
    assert!(
        matches!(long, Err(TreeError::PathTooLong { limit: 12, .. })),
        "{long:?}"
    );
}

#[test]
fn names_that_no_file_has_are_refused() {
    let long = "x".repeat(256);
    for name in [".", "..", "a\0", &long] {
        let made = Tree::default().insert(
            Tree::default().root(),
            name.as_bytes(),
            Node {
                attributes: Attributes::default(),
                kind: Kind::Fifo,
            },
        );
        assert!(matches!(made, Err(TreeError::BadName(_))), "{name:?}");
    }
    // A link's target has no limit of its own for the names in it.
    let long = merge(&[&[("s", symlink(&long)), ("s/a", file(0))]]);
    assert!(matches!(long, Err(TreeError::BadName(_))), "{long:?}");
}

#[test]
fn links_that_lead_to_and_fro_are_not_followed_for_ever() {
    let long = format!("{}x", "d/../".repeat(800));
    let tree = merge(&[&[
        ("d", directory(0o755)),
        ("x", file(0)),
        ("long", symlink(&long)),
    ]]);
    assert_eq!(
        tree.unwrap().resolve(b"long"),
        Err(ResolveError::TooManyLinks)
    );
}

#[test]
fn a_directory_gets_no_second_name() {
    let mut tree = merge(&[&[("a/d", directory(0o755))]]).unwrap();
    let target = tree.lookup(b"a/d").unwrap();
    let refused = tree.link(tree.root(), b"b", target).unwrap_err();
    let message = "/b is a hard link to /a/d, which is a directory; the image is damaged";
    assert_eq!(refused.to_string(), message);
}

#[test]
fn equal_trees_may_have_other_numbers() {
    let changes = [("a", file(0)), ("b", file(1)), ("c", link("b"))];
    let straight = merge(&[&changes]).unwrap();
    let mut detour = Tree::default();
    detour
        .apply(
            &layer(&[("x", file(7)), ("b", file(1)), ("c", link("b"))]),
            0,
            &Limits::default(),
        )
        .unwrap();
    detour.remove(detour.root(), b"x");
    detour
        .apply(&layer(&[("a", file(0))]), 0, &Limits::default())
        .unwrap();
    assert_eq!(straight, detour);
    assert_eq!(straight, detour.compact());

    let copied = [("a", file(0)), ("b", file(1)), ("c", file(1))];
    assert_ne!(straight, merge(&[&copied]).unwrap());
}
