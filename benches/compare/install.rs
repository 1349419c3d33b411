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
/// Packages of Debian that hold RabbitMQ and what runs it; their other dependencies are on every machine with a compiler.
const DEBIAN_PACKAGES: [&str; 19] = [
    "erlang-asn1",
    "erlang-base",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-ftp",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-snmp",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tftp",
    "erlang-tools",
    "erlang-xmerl",
    "libwrap0",
    "rabbitmq-server",
];
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
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{}: {error}", dir.display());
        fs::create_dir_all(dir).map_err(told)?;
        // Commands run in other folders.
        let dir = dir.canonicalize().map_err(told)?;
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

    /// The program with the libraries that run in one process.
    pub(crate) fn in_process(&self) -> PathBuf {
        self.path("in-process/release/in-process")
    }

    /// Builds it: a workspace of its own, so that its dependencies stay out of ours.
    pub(crate) fn rust(&self) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--release", "--locked", "--manifest-path"]);
        command.arg(self.sources.join("rust/Cargo.toml"));
        command.arg("--target-dir").arg(self.path("in-process"));
        self.step("in-process-build", &command)
    }

    /// What [`debian`](Self::debian) unpacked.
    pub(crate) fn debian_root(&self) -> PathBuf {
        self.path("debian-root")
    }

    /// Unpacks RabbitMQ and Erlang out of Debian's packages, beside the system, not into it.
    pub(crate) fn debian(&self) -> Result<(), String> {
        let (packages, root) = (self.path("debian"), self.debian_root());
        if root.is_dir() {
            return Ok(());
        }
        let told = |error: std::io::Error| format!("{}: {error}", root.display());
        fs::create_dir_all(&packages).map_err(told)?;
        let mut fetch = Command::new("apt-get");
        fetch.current_dir(&packages);
        fetch.arg("download").args(DEBIAN_PACKAGES);
        self.step("debian-packages", &fetch)?;
        let unpacked = self.path("debian-root.part");
        let _ = fs::remove_dir_all(&unpacked);
        for package in fs::read_dir(&packages).map_err(told)? {
            let mut unpack = Command::new("dpkg-deb");
            unpack
                .arg("-x")
                .arg(package.map_err(told)?.path())
                .arg(&unpacked);
            run(&unpack, STEP_WITHIN, &self.path("debian-unpack.log"))?;
        }
        // Erlang's start script knows where it would have been installed.
        let script = unpacked.join("usr/lib/erlang/bin/erl");
        let text = fs::read_to_string(&script).map_err(told)?;
        let here = format!("ROOTDIR={}", root.join("usr/lib/erlang").display());
        fs::write(&script, text.replace("ROOTDIR=/usr/lib/erlang", &here)).map_err(told)?;
        fs::rename(&unpacked, &root).map_err(told)
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
