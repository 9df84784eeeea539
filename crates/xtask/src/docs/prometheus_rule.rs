//! The PrometheusRule of `k8s`: kustomize can't make one of the rules that Prometheus and the chart read.

use anyhow::{Context, Result};

/// What stands before the groups. The names are those that the base of `k8s` uses.
const HEAD: &str = "\
# Written by `cargo xtask docs` from helm/starling/files/rules.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: { name: starling }
spec:
  groups:
";
/// How the rules select any installation's autoscaler, and how this one's is called.
const AUTOSCALER: [&str; 2] = [
    "horizontalpodautoscaler=~\".*starling.*\"",
    "horizontalpodautoscaler=~\"(keda-hpa-)?starling(-worker)?\"",
];

/// The object with the groups of these files.
pub fn object(files: &[String]) -> Result<String> {
    let mut object = HEAD.to_owned();
    for file in files {
        let groups = file.strip_prefix("groups:\n").context("a file of rules begins with its groups")?;
        for line in groups.replace(AUTOSCALER[0], AUTOSCALER[1]).lines() {
            object.push_str(if line.is_empty() { "" } else { "  " });
            object.push_str(line);
            object.push('\n');
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_all_files_stand_below_the_head_and_name_the_autoscaler() -> Result<()> {
        let files = [
            "groups:\n  - name: a\n    rules:\n      - expr: x{horizontalpodautoscaler=~\".*starling.*\"}\n",
            "groups:\n  - name: b\n",
        ];
        let object = object(&files.map(str::to_owned))?;
        let groups = object.strip_prefix(HEAD).context("the head")?;
        assert_eq!(
            groups,
            "    - name: a\n      rules:\n        - expr: x{horizontalpodautoscaler=~\"(keda-hpa-)?starling(-worker)?\"}\n    - name: b\n"
        );
        assert!(super::object(&["rules:\n".to_owned()]).is_err());
        Ok(())
    }
}
