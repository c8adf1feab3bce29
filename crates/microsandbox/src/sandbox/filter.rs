//! Which sandboxes a list is to have.

use std::collections::BTreeMap;

/// Lets sandboxes pass that have all of its labels; every sandbox if it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxFilter {
    labels: BTreeMap<String, String>,
}

impl SandboxFilter {
    /// Every sandbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those with this label too.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Those with all of these labels too.
    #[must_use]
    pub fn labels(
        mut self,
        labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let labels = labels.into_iter();
        self.labels
            .extend(labels.map(|(key, value)| (key.into(), value.into())));
        self
    }

    /// Whether it lets every sandbox pass.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub(crate) fn into_labels(self) -> BTreeMap<String, String> {
        self.labels
    }
}
