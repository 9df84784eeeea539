// local-cluster brings up a Kubernetes cluster of one node from its own parts, runs a command against it, and removes it.
//
// Everything lives in namespaces of its own (network, processes, mounts), with no way out to any other network: when the command has
// ended, the kernel ends all processes and mounts with the namespaces.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Options of the program.
type options struct {
	// Folder with the programs of Kubernetes.
	bin string
	// Folder for state and logs; it is removed unless keep is set.
	work string
	keep bool
	// The images to load: NAME=PROGRAM, where the program is the whole image.
	images imageList
	// Files with objects to apply before the command runs, such as definitions of further kinds.
	objects fileList
	// A Traefik that serves as the ingress controller; empty for none.
	traefik string
	// How kube-proxy programs the kernel: iptables or nftables.
	proxyMode string
	// Host names that resolve to the node, for the command.
	hosts string
	// The command.
	command []string
}

type imageList []string

func (list *imageList) String() string { return strings.Join(*list, ",") }

func (list *imageList) Set(value string) error {
	if name, program, ok := strings.Cut(value, "="); !ok || name == "" || program == "" {
		return fmt.Errorf("it looks like NAME:TAG=PROGRAM")
	}
	*list = append(*list, value)
	return nil
}

type fileList []string

func (list *fileList) String() string { return strings.Join(*list, ",") }

func (list *fileList) Set(value string) error {
	*list = append(*list, value)
	return nil
}

func main() {
	options, err := parse(os.Args[1:])
	if err == nil {
		if os.Getenv(insideVariable) == "" {
			err = enclose(options)
		} else {
			err = inside(options)
		}
	}
	var ended *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &ended):
		// The command, or the inner program, has said what was wrong.
		os.Exit(max(ended.ExitCode(), 1))
	default:
		fmt.Fprintln(os.Stderr, "local-cluster:", err)
		os.Exit(1)
	}
}

func parse(arguments []string) (*options, error) {
	var parsed options
	flags := flag.NewFlagSet("local-cluster", flag.ExitOnError)
	flags.StringVar(&parsed.bin, "bin", "", "folder with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, pause, coredns, metrics-server and metrics-adapter")
	flags.StringVar(&parsed.work, "work", "", "empty or new folder for state and logs (default: a temporary one)")
	flags.BoolVar(&parsed.keep, "keep", false, "keep the folder, to read the logs")
	flags.Var(&parsed.images, "image", "an image to load, NAME:TAG=PROGRAM: a static program that is all of its image; may be given several times")
	flags.Var(&parsed.objects, "apply", "a file with objects to apply before the command runs; may be given several times")
	flags.StringVar(&parsed.traefik, "traefik", "", "the program of Traefik, which becomes the ingress controller of class `traefik`")
	flags.StringVar(&parsed.proxyMode, "proxy-mode", "nftables", "how kube-proxy programs the kernel: iptables or nftables")
	flags.StringVar(&parsed.hosts, "hosts", "", "host names, with commas between, that resolve to the node for the command")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: local-cluster --bin FOLDER [options] COMMAND [ARGUMENT…]\n\nThe command finds the cluster by KUBECONFIG. Needs root, containerd, runc, the CNI plugins, iptables and nft.")
		flags.PrintDefaults()
	}
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	parsed.command = flags.Args()
	if parsed.bin == "" || len(parsed.command) == 0 {
		return nil, errors.New("--bin and a command are needed; --help lists the options")
	}
	var err error
	if parsed.bin, err = filepath.Abs(parsed.bin); err != nil {
		return nil, err
	}
	return &parsed, nil
}

// inside is the program in the namespaces, where it is process 1.
func inside(options *options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cluster, err := up(ctx, options)
	if err != nil {
		// Without %w: only the end of the command is this program's own.
		return fmt.Errorf("%v (logs, with --keep: %s)", err, filepath.Join(options.work, "log"))
	}
	defer cluster.down()
	command := exec.CommandContext(ctx, options.command[0], options.command[1:]...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), "KUBECONFIG="+cluster.kubeconfig("admin"))
	return command.Run()
}
