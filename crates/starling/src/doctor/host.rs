//! What the kernel says about this machine and about the limits of this process.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// A machine, as the files of its kernel describe it.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
}

/// The limits of a control group, with those of the groups around it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupLimits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processors, as a share of their time.
    pub processors: Option<f64>,
}

impl Host {
    /// This machine.
    pub fn here() -> Host {
        Host { root: PathBuf::from("/") }
    }

    /// The longest queue of connections that wait to be accepted.
    pub fn backlog_max(&self) -> Option<u64> {
        self.number("proc/sys/net/core/somaxconn")
    }

    /// The ports that outgoing connections get.
    pub fn ephemeral_ports(&self) -> Option<RangeInclusive<u16>> {
        let text = self.text("proc/sys/net/ipv4/ip_local_port_range")?;
        let mut ports = text.split_whitespace().map(str::parse::<u16>);
        match (ports.next(), ports.next()) {
            (Some(Ok(first)), Some(Ok(last))) => Some(first..=last),
            _ => None,
        }
    }

    /// The ports that outgoing connections do not get although they are among those, as the kernel writes them: `8080,9000-9100`.
    pub fn reserved_ports(&self) -> Vec<RangeInclusive<u16>> {
        let text = self.text("proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        text.split(',').filter_map(|part| range(part.trim())).collect()
    }

    /// The limits of this process's control group, of either version.
    pub fn group_limits(&self) -> GroupLimits {
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        let mut limits = GroupLimits::default();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let has = |name: &str| controllers.split(',').any(|controller| controller == name);
            if controllers.is_empty() {
                self.tighten(&mut limits, Path::new("sys/fs/cgroup"), path, Self::of_version_2);
            } else if has("memory") {
                self.tighten(&mut limits, Path::new("sys/fs/cgroup/memory"), path, Self::memory_of_version_1);
            } else if has("cpu") {
                self.tighten(
                    &mut limits,
                    Path::new("sys/fs/cgroup/cpu"),
                    path,
                    Self::processors_of_version_1,
                );
            }
        }
        limits
    }

    /// Applies the limits of a group and of all around it. In a container, only the upper part may be seen.
    fn tighten(
        &self,
        limits: &mut GroupLimits,
        mount: &Path,
        group: &str,
        read: fn(&Host, &Path) -> GroupLimits,
    ) {
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let found = read(self, &mount.join(group));
            limits.memory = [limits.memory, found.memory].into_iter().flatten().min();
            limits.processors = [limits.processors, found.processors].into_iter().flatten().reduce(f64::min);
        }
    }

    fn of_version_2(&self, group: &Path) -> GroupLimits {
        // `max` is no number, and no limit.
        let memory = self.number(group.join("memory.max"));
        let quota = self.text(group.join("cpu.max"));
        let processors = quota.and_then(|text| {
            let (quota, period) = text.trim().split_once(' ')?;
            share(quota.parse().ok()?, period.parse().ok()?)
        });
        GroupLimits { memory, processors }
    }

    fn memory_of_version_1(&self, group: &Path) -> GroupLimits {
        // Without a limit it is the largest multiple of a page.
        let memory = self.number(group.join("memory.limit_in_bytes")).filter(|limit| *limit < 1 << 60);
        GroupLimits { memory, processors: None }
    }

    fn processors_of_version_1(&self, group: &Path) -> GroupLimits {
        let number = |name: &str| self.number(group.join(name));
        // Without a limit the quota is -1.
        let processors = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"));
        GroupLimits { memory: None, processors: processors.and_then(|(quota, period)| share(quota, period)) }
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }
}

fn share(quota: u64, period: u64) -> Option<f64> {
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let root = folder.path().to_owned();
        (folder, Host { root })
    }

    #[test]
    fn the_tightest_limit_of_a_group_and_those_around_it_counts() {
        let (_folder, host) = host(&[
            ("proc/self/cgroup", "0::/pods/node\n"),
            ("sys/fs/cgroup/pods/node/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/memory.max", "536870912\n"),
            ("sys/fs/cgroup/pods/node/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/pods/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(host.group_limits(), GroupLimits { memory: Some(512 << 20), processors: Some(1.5) });
    }

    #[test]
    fn groups_of_version_1_are_read_as_well() {
        let (_folder, host) = host(&[
            ("proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/a\n0::/\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(host.group_limits(), GroupLimits { memory: Some(1 << 20), processors: Some(0.5) });
    }

    #[test]
    fn what_the_kernel_does_not_say_is_not_known() {
        let (_folder, host) =
            host(&[("proc/self/cgroup", "nonsense"), ("proc/sys/net/core/somaxconn", "many")]);
        assert_eq!((host.backlog_max(), host.ephemeral_ports()), (None, None));
        assert_eq!((host.group_limits(), host.reserved_ports()), (GroupLimits::default(), Vec::new()));
    }

    #[test]
    fn ports_are_read_as_the_kernel_writes_them() {
        let (_folder, host) = host(&[
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/ip_local_reserved_ports", "8080,9000-9100\n"),
        ]);
        assert_eq!(host.ephemeral_ports(), Some(32768..=60999));
        assert_eq!(host.reserved_ports(), [8080..=8080, 9000..=9100]);
    }
}
