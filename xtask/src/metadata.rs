//! What `cargo metadata` says of the workspace and of what it depends on.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::process::{Failure, Outcome, cargo, output};

/// The part of cargo's answer that is looked at here.
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: String,
    /// Who really depends on whom, by name, features considered; only of
    /// [`everything`].
    pub(crate) dependents: Vec<(String, String)>,
}

pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX expression, if it has one.
    pub(crate) license: Option<String>,
    /// `None` for a package of the workspace.
    pub(crate) source: Option<String>,
    /// Path of its `Cargo.toml`.
    pub(crate) manifest: String,
    /// Names of the packages that it depends on, for whatever purpose.
    pub(crate) dependencies: Vec<String>,
    pub(crate) examples: Vec<String>,
}

/// The packages of the workspace only.
pub(crate) fn workspace() -> Outcome<Metadata> {
    metadata(&["metadata", "--format-version", "1", "--no-deps"])
}

/// All packages that the workspace depends on, on any platform.
pub(crate) fn everything() -> Outcome<Metadata> {
    metadata(&["metadata", "--format-version", "1", "--all-features", "--locked"])
}

fn metadata(arguments: &[&str]) -> Outcome<Metadata> {
    let answer = output(&mut cargo(arguments))?;
    let value: Value = serde_json::from_str(&answer)
        .map_err(|error| Failure::new(format!("`cargo metadata` is not JSON: {error}")))?;
    parse(&value).ok_or_else(|| Failure::new("`cargo metadata` lacks a field that it documents"))
}

fn parse(value: &Value) -> Option<Metadata> {
    Some(Metadata {
        packages: value["packages"].as_array()?.iter().map(package).collect::<Option<_>>()?,
        target_directory: string(&value["target_directory"])?,
        dependents: dependents(value).unwrap_or_default(),
    })
}

/// Pairs of a package and one that it depends on, by the resolved graph.
fn dependents(value: &Value) -> Option<Vec<(String, String)>> {
    let names: BTreeMap<&str, &str> = value["packages"]
        .as_array()?
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let name = |id: &Value| names.get(id.as_str()?).map(|name| (*name).to_owned());
    let mut pairs = Vec::new();
    for node in value["resolve"]["nodes"].as_array()? {
        let dependent = name(&node["id"])?;
        for dependency in node["dependencies"].as_array()? {
            pairs.push((dependent.clone(), name(dependency)?));
        }
    }
    Some(pairs)
}

fn package(value: &Value) -> Option<Package> {
    let is_example = |target: &&Value| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "example"))
    };
    let names = |values: Vec<&Value>| {
        values.iter().map(|value| string(&value["name"])).collect::<Option<Vec<_>>>()
    };
    Some(Package {
        name: string(&value["name"])?,
        version: string(&value["version"])?,
        license: string(&value["license"]),
        source: string(&value["source"]),
        manifest: string(&value["manifest_path"])?,
        dependencies: names(value["dependencies"].as_array()?.iter().collect())?,
        examples: names(value["targets"].as_array()?.iter().filter(is_example).collect())?,
    })
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
