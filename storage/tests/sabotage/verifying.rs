//! The check that the model's tests share with those of `verify`.

use std::path::Path;
use std::sync::Arc;

use meshlog_storage::disk::Disk;
use meshlog_storage::{ErrorKind, verify};

use crate::support::Machine;

pub(crate) fn assert_undamaged(machine: &Machine) {
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    match verify(Path::new("data"), &disk, &mut |_| {}) {
        Ok(report) => assert!(report.is_clean(), "{report:#?}"),
        // Power went before there was a directory.
        Err(error) => assert_eq!(*error.kind(), ErrorKind::Format, "{error}"),
    }
}
