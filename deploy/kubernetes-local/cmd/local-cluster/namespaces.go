package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

// Tells the program that it runs in the namespaces.
const insideVariable = "STARLING_LOCAL_CLUSTER_INSIDE"

// The cgroup below which everything of the cluster runs, in each hierarchy.
const cgroupRoot = "starling-local-cluster"

// enclose runs this program once more, in namespaces of its own, and clears up behind it.
func enclose(options *options) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can make network and mount namespaces")
	}
	if options.work == "" {
		folder, err := os.MkdirTemp("", "starling-cluster-")
		if err != nil {
			return err
		}
		options.work = folder
	}
	work, err := filepath.Abs(options.work)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	arguments := append([]string{"--work", work}, os.Args[1:]...)
	child := exec.Command(program, arguments...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.Env = append(os.Environ(), insideVariable+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		// The cluster ends with this process, however that ends.
		Pdeathsig: syscall.SIGKILL,
	}
	// The kernel watches over the thread that starts the child, not over the process.
	runtime.LockOSThread()
	// The inner program ends by itself; until then this one stays, to clear up.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := child.Start(); err != nil {
		return fmt.Errorf("make the namespaces: %w", err)
	}
	go func() {
		for got := range signals {
			// A Ctrl-C reaches both; a second signal does no harm.
			_ = child.Process.Signal(got)
		}
	}()
	ended := child.Wait()
	removeCgroups()
	if !options.keep {
		if err := os.RemoveAll(work); err != nil && ended == nil {
			ended = err
		}
	}
	return ended
}

// ownMounts takes the folders that Kubernetes' parts know by fixed paths out of the way: what they put there is seen in this mount
// namespace only.
func ownMounts(work string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	// The kubelet needs its volumes to reach the pods' mount namespaces.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, folder := range []string{"/var/log", "/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni"} {
		own := filepath.Join(work, "root", folder)
		if err := errors.Join(os.MkdirAll(own, 0o755), os.MkdirAll(folder, 0o755)); err != nil {
			return err
		}
		if err := syscall.Mount(own, folder, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", folder, err)
		}
		if err := syscall.Mount("", folder, "", syscall.MS_SHARED, ""); err != nil {
			return fmt.Errorf("share %s: %w", folder, err)
		}
	}
	return hideKernelSettings(work)
}

// hideKernelSettings shows the kubelet the settings that it would make otherwise: they belong to the whole machine, not to a namespace.
func hideKernelSettings(work string) error {
	for setting, wanted := range map[string]string{"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"} {
		shown := filepath.Join(work, "config", filepath.Base(setting))
		if err := os.WriteFile(shown, []byte(wanted+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(shown, filepath.Join("/proc/sys", setting), "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("hide %s: %w", setting, err)
		}
	}
	return nil
}

// makeCgroups makes the cluster's cgroup in every hierarchy.
func makeCgroups() error {
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return err
	}
	if len(hierarchies) == 0 {
		// One hierarchy for all controllers (cgroup v2).
		return os.MkdirAll(filepath.Join("/sys/fs/cgroup", cgroupRoot), 0o755)
	}
	for _, procs := range hierarchies {
		folder := filepath.Join(filepath.Dir(procs), cgroupRoot)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		// A new cpuset has no processors, and nothing can run in it until it has some.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if all, err := os.ReadFile(filepath.Join(filepath.Dir(procs), file)); err == nil {
				if err := os.WriteFile(filepath.Join(folder, file), all, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// removeCgroups removes the cluster's cgroups, innermost first. Their processes have ended.
func removeCgroups() {
	folders, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroupRoot)
	folders = append(folders, filepath.Join("/sys/fs/cgroup", cgroupRoot))
	for _, folder := range folders {
		var inner []string
		_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				inner = append(inner, path)
			}
			return nil
		})
		for i := len(inner) - 1; i >= 0; i-- {
			_ = syscall.Rmdir(inner[i])
		}
	}
}
