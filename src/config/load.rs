//! Reading a settings file and laying the overrides over it.
//!
//! Owns the order (file, environment, flags: the later one wins) and the form of an override. Must not know what a key means:
//! unknown keys are refused by the shapes in [`super`], wherever they come from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{ClientConfig, Config, ConfigError};

/// Prefix of the environment variables that override a key.
const ENV_PREFIX: &str = "PLIMSOLL_";

/// Sections whose keys can be overridden. `nodes` is a list, and has no single key.
const SECTIONS: [&str; 6] = ["node", "tls", "raft", "log", "limits", "network"];

pub(super) fn node(
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
    overrides: &[String],
) -> Result<Config, ConfigError> {
    let text = read(path)?;
    let mut table: Table = parse(path, &text)?;
    let mut origin = path.display().to_string();
    let mut overridden = false;
    for (section, key, value, variable) in from_environment(environment)? {
        put(&mut table, &variable, &section, &key, &value)?;
        origin.push_str(&format!(" with {variable}"));
        overridden = true;
    }
    for setting in overrides {
        let flag = format!("--set {setting}");
        let (section, key, value) = split(&flag, setting)?;
        put(&mut table, &flag, section, key, value)?;
        origin.push_str(&format!(" with {flag}"));
        overridden = true;
    }
    let mut config: Config = if overridden {
        table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Parse {
                origin,
                message: error.to_string().trim_end().to_owned(),
            })?
    } else {
        parse(path, &text)?
    };
    let base = folder(path);
    for file in [
        &mut config.node.data_dir,
        &mut config.tls.ca,
        &mut config.tls.cert,
        &mut config.tls.key,
    ] {
        *file = base.join(&*file);
    }
    config.validate()?;
    Ok(config)
}

pub(super) fn client(path: &Path) -> Result<ClientConfig, ConfigError> {
    let mut config: ClientConfig = parse(path, &read(path)?)?;
    let base = folder(path);
    for file in [&mut config.ca, &mut config.cert, &mut config.key] {
        *file = base.join(&*file);
    }
    config.validate()?;
    Ok(config)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Parses the file as it stands, so that errors give the line.
fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Parse {
        origin: path.display().to_string(),
        message: error.to_string().trim_end().to_owned(),
    })
}

fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// The overrides of the environment, in the order of their names: section, key, value, and the variable for messages.
/// Variables of another meaning (`PLIMSOLL_CLIENT`) name no section, and are left alone.
fn from_environment(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String, String, String)>, ConfigError> {
    let mut found = Vec::new();
    for (variable, value) in environment {
        let Ok(variable) = variable.into_string() else {
            continue;
        };
        let Some(rest) = variable.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let Some((section, key)) = rest.split_once('_') else {
            continue;
        };
        let section = section.to_ascii_lowercase();
        if !SECTIONS.contains(&section.as_str()) {
            continue;
        }
        let Ok(value) = value.into_string() else {
            return Err(ConfigError::Override {
                origin: variable,
                message: "the value is not UTF-8".to_owned(),
            });
        };
        found.push((section, key.to_ascii_lowercase(), value, variable));
    }
    found.sort();
    Ok(found)
}

fn split<'a>(flag: &str, setting: &'a str) -> Result<(&'a str, &'a str, &'a str), ConfigError> {
    setting
        .split_once('=')
        .and_then(|(name, value)| {
            name.split_once('.')
                .map(|(section, key)| (section.trim(), key.trim(), value.trim()))
        })
        .ok_or_else(|| ConfigError::Override {
            origin: flag.to_owned(),
            message: "write it as section.key=value, such as raft.heartbeat_ms=50".to_owned(),
        })
}

/// Puts one override in its place. A key that no section has is refused later, when the table takes its shape.
fn put(
    table: &mut Table,
    origin: &str,
    section: &str,
    key: &str,
    value: &str,
) -> Result<(), ConfigError> {
    let refused = |message: String| ConfigError::Override {
        origin: origin.to_owned(),
        message,
    };
    if !SECTIONS.contains(&section) {
        let known = SECTIONS.join(", ");
        return Err(refused(format!(
            "there is no section {section:?}; the sections are {known}"
        )));
    }
    let place = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    let Value::Table(place) = place else {
        return Err(refused(format!("{section} is not a section in the file")));
    };
    // What the file has as text stays text: a cluster may be named 77.
    let value = match place.get(key) {
        Some(Value::String(_)) => Value::String(value.to_owned()),
        _ => scalar(value),
    };
    place.insert(key.to_owned(), value);
    Ok(())
}

/// A number or a boolean where it reads as one; the text itself otherwise.
fn scalar(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => Value::String(text.to_owned()),
    }
}
