//! What the host's refusals are called.

use std::io::{Error, ErrorKind};
use std::path::Path;

use crate::StoreError;
use crate::error::Fault;

#[test]
fn the_hosts_refusals_have_names() {
    let path = Path::new("/home/db/catalog.redb");
    let of = |kind: ErrorKind| {
        // The way it comes: out of redb.
        Fault::from(redb::StorageError::Io(Error::from(kind))).at(path)
    };
    assert!(matches!(
        of(ErrorKind::PermissionDenied),
        StoreError::Permission { .. }
    ));
    assert!(matches!(
        of(ErrorKind::ReadOnlyFilesystem),
        StoreError::ReadOnly { .. }
    ));
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        assert!(matches!(of(kind), StoreError::NoSpace { .. }));
    }
    assert!(matches!(
        of(ErrorKind::UnexpectedEof),
        StoreError::Damaged { .. }
    ));
    assert!(matches!(of(ErrorKind::Other), StoreError::Io { .. }));
}

#[test]
fn a_message_says_what_to_do_and_does_not_repeat_its_source() {
    let path = Path::new("/home/db/catalog.redb");
    let error = StoreError::io(path, Error::from_raw_os_error(28));
    assert_eq!(
        error.to_string(),
        "no space is left for /home/db/catalog.redb; free some"
    );
    let error = Fault::Newer(9).at(path);
    assert!(error.to_string().contains("upgrade"), "{error}");
    let error = Fault::Damaged("x".into()).at(path);
    assert!(error.to_string().contains("rebuild"), "{error}");
}
