use std::sync::Arc;

use parking_lot::Mutex;
use starling_redis_link::Script;

use crate::PARTITIONS;

/// The publishing scripts of one link. Each group of partitions has a script that is bound to the run id of its server, once that is
/// known.
#[derive(Default)]
pub(super) struct Scripts {
    groups: Mutex<[Option<Arc<Script>>; PARTITIONS as usize]>,
}

impl Scripts {
    pub(super) fn get(&self, group: usize) -> Option<Arc<Script>> {
        self.groups.lock()[group].clone()
    }

    pub(super) fn set(&self, group: usize, script: Script) {
        self.groups.lock()[group] = Some(Arc::new(script));
    }

    pub(super) fn forget(&self, group: usize) {
        self.groups.lock()[group] = None;
    }
}
