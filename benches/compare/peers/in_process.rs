//! Libraries in one process: what they allow when nothing is written and nothing is sent.

use std::path::PathBuf;
use std::process::Command;

use super::{Cluster, Site, System, run_load};
use crate::figures::Figures;
use crate::install::Cache;
use crate::work::{Kind, Work, flags};

/// Callers at full speed.
const IN_FLIGHT: u32 = 1024;

pub(crate) struct InProcess {
    name: &'static str,
    title: &'static str,
    settings: &'static str,
}

impl InProcess {
    pub(crate) const OPENRAFT: Self = Self {
        name: "openraft",
        title: "openraft 0.9.25 (a library, in one process)",
        settings: "three nodes on one runtime of two threads; logs in memory that share each payload; calls of handles for a network; max_payload_entries 1,024; no snapshots",
    };
    pub(crate) const TIKV: Self = Self {
        name: "tikv",
        title: "tikv raft 0.7.0 (a library, in one process)",
        settings: "three nodes, a thread each; the library's MemStorage; channels for a network; batch_append, max_size_per_msg 1 MiB, max_inflight_msgs 256; all proposals that wait are taken before what is ready",
    };
}

impl System for InProcess {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> String {
        self.title.to_owned()
    }

    fn ack(&self) -> &'static str {
        "nothing: one process, no disk, no network"
    }

    fn sends(&self) -> &'static str {
        "1,024 callers in the leader's process, an entry a record"
    }

    fn settings(&self) -> &'static str {
        self.settings
    }

    fn lacks(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::Consume => Some("a library has no readers"),
            Kind::Failover => Some("no process to kill"),
            _ => None,
        }
    }

    fn install(&self, cache: &Cache) -> Result<(), String> {
        cache.rust()
    }

    fn start(&self, cache: &Cache, site: Site) -> Result<Box<dyn Cluster>, String> {
        Ok(Box::new(Program {
            library: self.name,
            program: cache.in_process(),
            site,
        }))
    }
}

/// Its three nodes live as long as a measurement.
struct Program {
    library: &'static str,
    program: PathBuf,
    site: Site,
}

impl Cluster for Program {
    fn measure(&mut self, work: &Work, seconds: u64) -> Result<Figures, String> {
        let mut command = Command::new(&self.program);
        command.arg(self.library);
        command.args(flags(work, seconds, IN_FLIGHT));
        run_load(&command, seconds, &self.site.log("load"))
    }
}
