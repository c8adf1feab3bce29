//! Any sequence of operations, on two open catalogs of one file, does what it does to a map.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use msb_store::{
    Catalog, LabelFilter, NewSandbox, OpenOptions, Rebuilt, SandboxRecord, StoreError, rebuild,
};
use msb_types::SandboxStatus;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Operation {
    Insert(String, BTreeMap<String, String>, String),
    Relabel(String, BTreeMap<String, String>),
    SetStatus(String, SandboxStatus),
    Refuse(String),
    Remove(String),
    RemoveRefused(String),
    Get(String),
    List(BTreeMap<String, String>),
    Reopen,
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "b",
        "c",
        "a-much-longer-name.than_the_others",
        "Z",
    ])
    .prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let word = || prop::sample::select(vec!["", "x", "x=y", "y", "ä\0"]).prop_map(str::to_owned);
    prop::collection::btree_map(word(), word(), 0..3)
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (name(), labels(), any::<String>())
            .prop_map(|(name, labels, config)| Operation::Insert(name, labels, config)),
        3 => (name(), labels()).prop_map(|(name, labels)| Operation::Relabel(name, labels)),
        2 => (name(), prop::sample::select(SandboxStatus::ALL.to_vec()))
            .prop_map(|(name, status)| Operation::SetStatus(name, status)),
        1 => name().prop_map(Operation::Refuse),
        2 => name().prop_map(Operation::Remove),
        1 => name().prop_map(Operation::RemoveRefused),
        2 => name().prop_map(Operation::Get),
        3 => labels().prop_map(Operation::List),
        1 => Just(Operation::Reopen),
    ]
}

/// The map and what it says an operation answers.
#[derive(Default)]
struct Model {
    records: BTreeMap<String, SandboxRecord>,
    last_id: u64,
}

fn open(path: &std::path::Path) -> Catalog {
    Catalog::open(path, OpenOptions::default()).unwrap()
}

fn not_found<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::NotFound { .. })),
        "{result:?}"
    );
}

impl Model {
    fn check(&mut self, catalog: &Catalog, operation: Operation) {
        match operation {
            Operation::Insert(name, labels, config) => {
                let mut new = NewSandbox::new(&name, &config);
                new.labels = labels.clone();
                let result = catalog.insert(new);
                if self.records.contains_key(&name) {
                    assert!(matches!(result, Err(StoreError::AlreadyExists { .. })));
                    return;
                }
                let record = result.unwrap();
                self.last_id += 1;
                assert_eq!(
                    (record.id, &record.name, &record.labels, &record.config_json),
                    (self.last_id, &name, &labels, &config)
                );
                self.records.insert(name, record);
            }
            Operation::Relabel(name, labels) => {
                self.update(catalog, &name, move |record| record.labels = labels.clone());
            }
            Operation::SetStatus(name, status) => {
                self.update(catalog, &name, move |record| record.status = status);
            }
            Operation::Refuse(name) => {
                let result = catalog.update(&name, |record| {
                    record.labels.clear();
                    Err(5)
                });
                match self.records.get(&name) {
                    Some(_) => assert_eq!(result.unwrap(), Err(5)),
                    None => not_found(result),
                }
            }
            Operation::Remove(name) => {
                let result = catalog.remove_if(&name, |_| Ok::<_, ()>(()));
                match self.records.remove(&name) {
                    Some(record) => assert_eq!(result.unwrap(), Ok(record)),
                    None => not_found(result),
                }
            }
            Operation::RemoveRefused(name) => {
                let result = catalog.remove_if(&name, |record| Err(record.id));
                match self.records.get(&name) {
                    Some(record) => assert_eq!(result.unwrap(), Err(record.id)),
                    None => not_found(result),
                }
            }
            Operation::Get(name) => {
                assert_eq!(
                    catalog.get(&name).unwrap().as_ref(),
                    self.records.get(&name)
                );
            }
            Operation::List(labels) => {
                let listed = catalog.list(&LabelFilter(labels.clone())).unwrap();
                let mut expected: Vec<_> = self
                    .records
                    .values()
                    .filter(|record| {
                        labels
                            .iter()
                            .all(|(key, value)| record.labels.get(key) == Some(value))
                    })
                    .cloned()
                    .collect();
                expected.sort_by_key(|record| (record.created_at, record.name.clone()));
                assert_eq!(listed, expected);
            }
            Operation::Reopen => {}
        }
    }

    fn update(
        &mut self,
        catalog: &Catalog,
        name: &str,
        change: impl Fn(&mut SandboxRecord) + Clone + Send + 'static,
    ) {
        let twin = change.clone();
        let result = catalog.update(name, move |record| {
            twin(record);
            Ok::<_, ()>(())
        });
        let Some(record) = self.records.get_mut(name) else {
            return not_found(result);
        };
        let updated = result.unwrap().unwrap();
        let before = record.clone();
        change(record);
        assert_eq!(updated.updated_at == before.updated_at, *record == before);
        assert!(updated.updated_at >= before.updated_at);
        record.updated_at = updated.updated_at;
        assert_eq!(updated, *record);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_is_a_map(operations in prop::collection::vec((any::<bool>(), operation()), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.redb");
        let mut catalogs = [open(&path), open(&path)];
        let mut model = Model::default();
        for (which, operation) in operations {
            let catalog = &mut catalogs[usize::from(which)];
            if matches!(operation, Operation::Reopen) {
                *catalog = open(&path);
            }
            model.check(catalog, operation);
        }
        for catalog in &catalogs {
            model.check(catalog, Operation::List(BTreeMap::new()));
        }
        // A rebuild looks at everything, the index of labels too, and finds it whole.
        prop_assert_eq!(rebuild(&path, [], OpenOptions::default()).unwrap(), Rebuilt::Healthy);
    }
}
