//! Getting the peers: from the package registries into a folder of their own, nothing installed on the machine.
//!
//! Owns the cache folder beside the build, and the pinned versions' sources. Knows nothing of how a peer is run.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::run;

/// Downloads and builds may take so long, each step.
const STEP_WITHIN: Duration = Duration::from_secs(900);
/// The versions of the peers from Go, as their own tool keeps them.
const GO_MODULES: &str = include_str!("go/go.mod");
/// The plugin that copies jars, pinned as everything else is.
const COPY_JARS: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// Where installed peers lie.
pub(crate) struct Cache {
    dir: PathBuf,
    sources: PathBuf,
    /// Built by this process already: several systems share a program.
    built: RefCell<BTreeSet<String>>,
}

impl Cache {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare");
        Ok(Self {
            dir,
            sources,
            built: RefCell::default(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn step(&self, name: &str, command: &Command) -> Result<(), String> {
        if self.built.borrow().contains(name) {
            return Ok(());
        }
        eprintln!("  installing: {name}");
        run(command, STEP_WITHIN, &self.path(&format!("{name}.log")))?;
        self.built.borrow_mut().insert(name.to_owned());
        Ok(())
    }

    /// Builds a program of the Go module here: the load, or a server that its go.mod names.
    pub(crate) fn go(&self, program: &str, package: &str) -> Result<(), String> {
        let built = self.path(program);
        let mut command = Command::new("go");
        command.current_dir(self.sources.join("go"));
        command.args(["build", "-buildvcs=false", "-trimpath", "-o"]);
        command.arg(&built).arg(package);
        self.step(program, &command)
    }

    /// Kafka's jars and the load for it.
    pub(crate) fn kafka_class_path(&self) -> String {
        let (jars, classes) = (self.path("kafka"), self.path("kafka-load"));
        format!("{}:{}/*", classes.display(), jars.display())
    }

    /// Fetches Kafka's jars by the pom here, and compiles the load against them.
    pub(crate) fn java(&self) -> Result<(), String> {
        let (jars, classes) = (self.path("kafka"), self.path("kafka-load"));
        let pom = self.sources.join("java/pom.xml");
        if !jars.is_dir() {
            let mut fetch = Command::new("mvn");
            fetch.args(["-q", "-B", "-f"]).arg(pom).arg(COPY_JARS);
            fetch.arg(format!("-DoutputDirectory={}", jars.display()));
            self.step("kafka-jars", &fetch)?;
        }
        let mut compile = Command::new("javac");
        compile.args([
            "-d",
            &classes.to_string_lossy(),
            "-cp",
            &self.kafka_class_path(),
        ]);
        compile.arg(self.sources.join("java/Load.java"));
        self.step("kafka-load-classes", &compile)
    }
}

/// The version of a Go module that is built here.
pub(crate) fn go_version(module: &str) -> &'static str {
    let line = GO_MODULES
        .lines()
        .find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(' '));
    line.and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("?")
        .trim_start_matches('v')
}
