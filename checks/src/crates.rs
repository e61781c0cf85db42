//! Dependencies between our crates: the manifests as Cargo reads them, compared with a list of what is allowed.

use serde_json::Value;
use std::{path::Path, process::Command};

/// A package of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// All that it depends on, also to be built or tested.
    pub dependencies: Vec<Dependency>,
}

/// A dependency as a manifest has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The name of the package.
    pub name: String,
    /// With its default features.
    pub default_features: bool,
    /// Features requested by name.
    pub features: Vec<String>,
}

/// What a package of ours may depend on, of ours.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The package.
    pub package: &'static str,
    /// What it may use.
    pub uses: &'static [&'static str],
}

/// A default feature that only some of our packages may use.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    /// The package with the feature.
    pub package: &'static str,
    /// The feature, one of the default ones.
    pub feature: &'static str,
    /// Who may use it.
    pub users: &'static [&'static str],
}

/// The packages of the workspace that `manifest` belongs to, from `cargo metadata`.
pub fn packages(manifest: &Path) -> Result<Vec<Package>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .map_err(|e| format!("cannot run cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    read(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| "cargo metadata has another format".into())
}

fn read(metadata: &str) -> Option<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    metadata["packages"].as_array()?.iter().map(package).collect()
}

fn package(package: &Value) -> Option<Package> {
    let dependencies = package["dependencies"].as_array()?.iter().map(|d| {
        let features = d["features"].as_array()?.iter().filter_map(|f| Some(f.as_str()?.to_owned()));
        Some(Dependency {
            name: d["name"].as_str()?.to_owned(),
            default_features: d["uses_default_features"].as_bool()?,
            features: features.collect(),
        })
    });
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        dependencies: dependencies.collect::<Option<_>>()?,
    })
}

/// Every dependency that no rule allows, every package without a rule, and every rule without a package.
#[must_use]
pub fn violations(packages: &[Package], rules: &[Rule], reserved: &[Reserved]) -> Vec<String> {
    let ours = |name: &str| rules.iter().any(|rule| rule.package == name);
    let mut found = Vec::new();
    for package in packages {
        let name = &package.name;
        let Some(rule) = rules.iter().find(|rule| rule.package == name) else {
            found.push(format!("{name} has no rule: list what it may depend on"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| ours(&d.name)) {
            if !rule.uses.contains(&dependency.name.as_str()) {
                found.push(format!("{name} must not depend on {}", dependency.name));
            }
            for taken in reserved.iter().filter(|r| r.package == dependency.name) {
                let uses =
                    dependency.default_features || dependency.features.iter().any(|f| f == taken.feature);
                if uses && !taken.users.contains(&name.as_str()) {
                    found.push(format!(
                        "{name} must not use the feature {} of {}",
                        taken.feature, taken.package
                    ));
                }
            }
        }
    }
    for rule in rules.iter().filter(|rule| !packages.iter().any(|p| p.name == rule.package)) {
        found.push(format!("there is a rule for {}, which does not exist", rule.package));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 3] = [
        Rule { package: "gateway", uses: &["wire", "store"] },
        Rule { package: "store", uses: &["wire"] },
        Rule { package: "wire", uses: &[] },
    ];
    const RESERVED: [Reserved; 1] = [Reserved { package: "store", feature: "server", users: &[] }];

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependency = |(name, default_features): &(&str, bool)| Dependency {
            name: (*name).to_owned(),
            default_features: *default_features,
            features: vec![],
        };
        Package { name: name.to_owned(), dependencies: dependencies.iter().map(dependency).collect() }
    }

    fn good() -> [Package; 3] {
        [
            package("gateway", &[("wire", true), ("store", false), ("serde", true)]),
            package("store", &[("wire", true)]),
            package("wire", &[("serde", true)]),
        ]
    }

    #[test]
    fn allowed_dependencies_pass() {
        assert_eq!(violations(&good(), &RULES, &RESERVED), [""; 0]);
    }

    #[test]
    fn a_backward_dependency_is_found() {
        let [gateway, store, _] = good();
        let wire = package("wire", &[("store", false)]);
        assert_eq!(violations(&[gateway, store, wire], &RULES, &RESERVED), ["wire must not depend on store"]);
    }

    #[test]
    fn a_reserved_feature_is_found_by_default_and_by_name() {
        let [_, store, wire] = good();
        let by_default = package("gateway", &[("store", true)]);
        let mut by_name = package("gateway", &[("store", false)]);
        by_name.dependencies[0].features.push("server".to_owned());
        for gateway in [by_default, by_name] {
            let packages = [gateway, store.clone(), wire.clone()];
            let found = violations(&packages, &RULES, &RESERVED);
            assert_eq!(found, ["gateway must not use the feature server of store"]);
        }
    }

    #[test]
    fn rules_and_packages_must_match() {
        let [gateway, store, _] = good();
        let found = violations(&[gateway, store, package("new", &[])], &RULES, &RESERVED);
        assert_eq!(
            found,
            ["new has no rule: list what it may depend on", "there is a rule for wire, which does not exist"]
        );
    }

    #[test]
    fn metadata_is_read() {
        let metadata = r#"{"packages": [{"name": "store", "dependencies": [
            {"name": "wire", "kind": "dev", "uses_default_features": false, "features": ["exercise"]}
        ]}]}"#;
        let [store] = &read(metadata).unwrap()[..] else { panic!("one package") };
        assert_eq!(store.name, "store");
        let [wire] = &store.dependencies[..] else { panic!("one dependency") };
        assert_eq!(
            (&*wire.name, wire.default_features, &wire.features[..]),
            ("wire", false, &["exercise".to_owned()][..])
        );
    }
}
