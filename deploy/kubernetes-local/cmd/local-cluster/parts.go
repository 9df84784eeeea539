package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	apiServer        = "https://" + nodeAddress + ":6443"
	// How long the whole cluster may take to come up.
	startLimit = 5 * time.Minute
)

// A running cluster.
type cluster struct {
	options *options
	// The folder of certificates and of kubeconfigs.
	secrets string
	parts   []*exec.Cmd
	// Gets the name of a part that ended by itself.
	ended chan error
}

// up starts all parts, and returns when the node is ready and every addition serves.
func up(ctx context.Context, options *options) (*cluster, error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	made := &cluster{options: options, secrets: filepath.Join(options.work, "secrets"), ended: make(chan error, 16)}
	for _, folder := range []string{"log", "secrets", "etcd", "config", "cni"} {
		if err := os.MkdirAll(filepath.Join(options.work, folder), 0o700); err != nil {
			return nil, err
		}
	}
	// The steps in order; each needs what those before it have made.
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"mounts", func(context.Context) error { return ownMounts(options.work) }},
		{"cgroups", func(context.Context) error { return makeCgroups() }},
		{"network", func(context.Context) error { return makeNetwork() }},
		{"hosts", func(context.Context) error { return writeHosts(options.work, options.hosts) }},
		{"certificates", func(context.Context) error { return made.writeSecrets() }},
		{"control plane", made.startControlPlane},
		{"containerd", made.startContainerd},
		{"node", made.startNode},
		{"additions", made.startAdditions},
	} {
		if err := step.do(ctx); err != nil {
			made.down()
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	fmt.Printf("local-cluster: the cluster is up after %.1f s\n", time.Since(begun).Seconds())
	return made, nil
}

// down asks the parts to end, newest first. What remains ends with the namespaces.
func (cluster *cluster) down() {
	for i := len(cluster.parts) - 1; i >= 0; i-- {
		_ = cluster.parts[i].Process.Kill()
	}
}

func (cluster *cluster) kubeconfig(user string) string {
	return filepath.Join(cluster.secrets, user+".kubeconfig")
}

func (cluster *cluster) secret(file string) string {
	return filepath.Join(cluster.secrets, file)
}

// config writes a file of configuration and returns its path.
func (cluster *cluster) config(name, text string) (string, error) {
	path := filepath.Join(cluster.options.work, "config", name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// start starts a part, whose output goes to a log of its name.
func (cluster *cluster) start(program string, arguments ...string) error {
	name := filepath.Base(program)
	if name == program {
		program = filepath.Join(cluster.options.bin, name)
	}
	log, err := os.Create(filepath.Join(cluster.options.work, "log", name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	part := exec.Command(program, arguments...)
	part.Stdout, part.Stderr = log, log
	part.Dir = cluster.options.work
	part.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := part.Start(); err != nil {
		return err
	}
	cluster.parts = append(cluster.parts, part)
	go func() {
		cluster.ended <- fmt.Errorf("%s has ended: %w", name, errors.Join(part.Wait(), errors.New("see its log")))
	}()
	return nil
}

// wait looks until the condition holds. The end of a part ends the wait.
func (cluster *cluster) wait(ctx context.Context, what string, holds func() error) error {
	for {
		err := holds()
		if err == nil {
			return nil
		}
		select {
		case ended := <-cluster.ended:
			return ended
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// kubectl runs kubectl as the administrator, with this text as its input, and returns its output.
func (cluster *cluster) kubectl(input string, arguments ...string) (string, error) {
	return kubectl(cluster.kubeconfig("admin"), input, arguments...)
}
