//! `cargo xtask deny`: licences, bans and sources of everything that is linked in.
//!
//! `deny.toml` is written for cargo-deny. Installing that takes minutes, so CI uses it only
//! where it is already there and else makes the same decisions here, from the same file.

use crate::license;
use crate::metadata::{self, Package};
use crate::process::{Failure, Outcome, cargo, execute, succeeds};
use crate::tree;

/// Where packages may come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if arguments.iter().any(|argument| argument == "--builtin") {
        return builtin();
    }
    if !is_installed() {
        println!("installing cargo-deny, which takes some minutes");
        execute(&mut cargo(&["install", "--locked", "cargo-deny"]))?;
    }
    cargo_deny()
}

/// Runs cargo-deny where it is installed, else our own check, and says which.
pub(crate) fn cheapest() -> Outcome {
    if is_installed() {
        println!("    by cargo-deny");
        return cargo_deny();
    }
    println!("    by the built-in check; `cargo xtask deny` installs cargo-deny");
    builtin()
}

fn builtin() -> Outcome {
    let policy = Policy::parse(&tree::read("deny.toml")?)?;
    let metadata = metadata::everything()?;
    let findings: Vec<String> = metadata
        .packages
        .iter()
        .flat_map(|package| policy.findings(package, &metadata.dependents))
        .collect();
    if !findings.is_empty() {
        return Err(Failure::new(findings.join("\n")));
    }
    println!("    {} packages have allowed licences and sources", metadata.packages.len());
    Ok(())
}

fn is_installed() -> bool {
    succeeds(&mut cargo(&["deny", "--version"]))
}

fn cargo_deny() -> Outcome {
    execute(&mut cargo(&["deny", "--all-features", "check", "bans", "licenses", "sources"]))
}

/// What `deny.toml` decides, as far as the built-in check understands it.
struct Policy {
    licenses: Vec<String>,
    banned: Vec<Ban>,
}

/// A package that may not be linked in, but by those named.
#[derive(Debug, PartialEq, Eq)]
struct Ban {
    name: String,
    wrappers: Vec<String>,
}

impl Ban {
    fn parse(entry: &str) -> Option<Self> {
        let wrappers = entry.split_once("wrappers = [").and_then(|(_, rest)| rest.split_once(']'));
        let wrappers = wrappers.map_or("", |(wrappers, _)| wrappers);
        Some(Self {
            name: first_quoted(entry)?,
            wrappers: wrappers.split('"').skip(1).step_by(2).map(str::to_owned).collect(),
        })
    }
}

impl Policy {
    fn parse(text: &str) -> Outcome<Self> {
        let list = |section: &str, key: &str| {
            entries(text, section, key).ok_or_else(|| {
                Failure::new(format!("deny.toml has no list `{key}` in [{section}]"))
            })
        };
        let licenses = list("licenses", "allow")?;
        let banned = list("bans", "deny")?;
        Ok(Self {
            licenses: licenses.into_iter().filter_map(first_quoted).collect(),
            banned: banned.into_iter().filter_map(Ban::parse).collect(),
        })
    }

    fn findings(&self, package: &Package, dependents: &[(String, String)]) -> Vec<String> {
        let name = format!("{} {}", package.name, package.version);
        let mut findings = Vec::new();
        match package.license.as_deref() {
            None => findings.push(format!("{name} names no licence")),
            Some(expression) => match license::satisfied(expression, &self.licenses) {
                Some(true) => {}
                Some(false) => findings.push(format!(
                    "{name} is under `{expression}`, which deny.toml does not allow"
                )),
                None => findings.push(format!("{name}: `{expression}` is no SPDX expression")),
            },
        }
        findings.extend(self.banned(package, dependents).map(|by| match by {
            Some(dependent) => format!("{name} is banned by deny.toml, and {dependent} uses it"),
            None => format!("{name} is banned by deny.toml"),
        }));
        if let Some(source) = &package.source
            && source != CRATES_IO
        {
            findings.push(format!("{name} comes from {source}, not from crates.io"));
        }
        findings
    }
}

impl Policy {
    /// Whether a package is banned: by whom it is used against the rule, or `None` where
    /// nobody may.
    fn banned<'a>(
        &'a self,
        package: &'a Package,
        dependents: &'a [(String, String)],
    ) -> impl Iterator<Item = Option<&'a str>> {
        let bans = self.banned.iter().filter(|ban| ban.name == package.name);
        bans.flat_map(move |ban| {
            let outsiders = dependents
                .iter()
                .filter(|(dependent, used)| *used == ban.name && !ban.wrappers.contains(dependent))
                .map(|(dependent, _)| Some(dependent.as_str()));
            let nobody = ban.wrappers.is_empty().then_some(None);
            nobody.into_iter().chain(outsiders.filter(|_| !ban.wrappers.is_empty()))
        })
    }
}

/// The entries of `key = [ … ]` in `[section]`, one entry a line.
fn entries<'a>(text: &'a str, section: &str, key: &str) -> Option<Vec<&'a str>> {
    let start = format!("{key} = [");
    let mut lines = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != format!("[{section}]"))
        .skip(1)
        .take_while(|line| !is_header(line))
        .skip_while(|line| *line != start);
    lines.next()?;
    let entries = lines.take_while(|line| *line != "]");
    Some(entries.filter(|line| !line.starts_with('#')).collect())
}

fn first_quoted(entry: &str) -> Option<String> {
    entry.split('"').nth(1).map(str::to_owned)
}

fn is_header(line: &str) -> bool {
    line.starts_with('[') && line.ends_with(']') && line.len() > 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "[licenses]\nallow = [\n  # why\n  \"MIT\",\n  \"ISC\", # x\n]\n\
        [bans]\nmultiple-versions = \"warn\"\ndeny = [\n  { crate = \"openssl\", reason = \"x\" },\n]\n";

    fn package(license: Option<&str>) -> Package {
        Package {
            name: "openssl".into(),
            version: "1.0.0".into(),
            license: license.map(str::to_owned),
            source: Some(CRATES_IO.into()),
            manifest: String::new(),
            dependencies: Vec::new(),
            examples: Vec::new(),
        }
    }

    #[test]
    fn the_lists_of_the_policy_are_read() {
        let policy = Policy::parse(POLICY).unwrap();
        assert_eq!(policy.licenses, ["MIT", "ISC"]);
        let ban = |name: &str, wrappers: &[&str]| Ban {
            name: name.into(),
            wrappers: wrappers.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(policy.banned, [ban("openssl", &[])]);
        let entry = r#"{ crate = "ring", wrappers = ["a", "b-c"], reason = "x" },"#;
        assert_eq!(Ban::parse(entry), Some(ban("ring", &["a", "b-c"])));
        let error = Policy::parse("[licenses]\n[bans]\ndeny = [\n]\n").err();
        assert_eq!(error, Some(Failure::new("deny.toml has no list `allow` in [licenses]")));
    }

    #[test]
    fn licence_ban_and_source_are_each_found() {
        let policy = Policy::parse(POLICY).unwrap();
        assert_eq!(
            policy.findings(&package(Some("MIT")), &[]),
            ["openssl 1.0.0 is banned by deny.toml"]
        );
        let foreign = Package {
            name: "x".into(),
            source: Some("git+https://example.org/x".into()),
            ..package(None)
        };
        assert_eq!(
            policy.findings(&foreign, &[]),
            [
                "x 1.0.0 names no licence",
                "x 1.0.0 comes from git+https://example.org/x, not from crates.io",
            ]
        );
        let copyleft = Package { name: "x".into(), ..package(Some("GPL-3.0-only")) };
        assert_eq!(
            policy.findings(&copyleft, &[]),
            ["x 1.0.0 is under `GPL-3.0-only`, which deny.toml does not allow"]
        );
    }

    #[test]
    fn a_wrapper_may_use_what_is_banned_and_no_other() {
        let text = POLICY.replace("reason", r#"wrappers = ["tls"], reason"#);
        let policy = Policy::parse(&text).unwrap();
        let uses = |dependent: &str| vec![(dependent.to_owned(), "openssl".to_owned())];
        assert_eq!(policy.findings(&package(Some("MIT")), &uses("tls")), [""; 0]);
        assert_eq!(
            policy.findings(&package(Some("MIT")), &uses("server")),
            ["openssl 1.0.0 is banned by deny.toml, and server uses it"]
        );
    }
}
