//! The backend that a call uses when it names none.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Backend, LocalBackend};

static DEFAULT: RwLock<Option<Arc<dyn Backend>>> = RwLock::new(None);

tokio::task_local! {
    static OVERRIDE: Arc<dyn Backend>;
}

/// The backend that calls from here use.
pub fn default_backend() -> Arc<dyn Backend> {
    if let Ok(backend) = OVERRIDE.try_with(Arc::clone) {
        return backend;
    }
    if let Some(backend) = &*DEFAULT.read().unwrap_or_else(PoisonError::into_inner) {
        return Arc::clone(backend);
    }
    let mut default = DEFAULT.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(default.get_or_insert_with(|| Arc::new(LocalBackend::lazy())))
}

/// Sets the backend that this program uses from now on.
pub fn set_default_backend(backend: Arc<dyn Backend>) {
    *DEFAULT.write().unwrap_or_else(PoisonError::into_inner) = Some(backend);
}

/// Sets the backend that this program uses from now on, and returns the one before.
pub fn swap_default_backend(backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
    let before = DEFAULT
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(backend);
    before.unwrap_or_else(|| Arc::new(LocalBackend::lazy()))
}

/// Runs a future in which calls use `backend`.
///
/// This holds for the future itself and for what it awaits, on whatever thread. It does *not* hold
/// for tasks that it spawns: those use the program's default, unless they are wrapped too.
pub async fn with_backend<F: Future>(backend: Arc<dyn Backend>, future: F) -> F::Output {
    OVERRIDE.scope(backend, future).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_innermost_counts_and_spawned_tasks_do_not_inherit() {
        let here = |path: &str| -> Arc<dyn Backend> {
            Arc::new(LocalBackend::builder().home(path).lazy())
        };
        let home = || default_backend().as_local().map(|local| local.home().ok());
        let outer = here("/outer");
        let seen = with_backend(outer, async {
            let inner = with_backend(here("/inner"), async { home() }).await;
            (home(), inner, tokio::spawn(async move { home() }).await)
        })
        .await;
        assert_eq!(seen.0, Some(Some("/outer".into())));
        assert_eq!(seen.1, Some(Some("/inner".into())));
        assert_ne!(seen.2.ok(), Some(Some(Some("/outer".into()))));
    }
}
