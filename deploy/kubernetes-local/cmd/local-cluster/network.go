package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The addresses of the cluster. Nothing outside its network namespace can be reached by them, or reaches them.
const (
	nodeName    = "node"
	nodeAddress = "10.243.0.1"
	nodeNetwork = "10.243.0.0/24"
	podNetwork  = "10.244.0.0/16"
	services    = "10.96.0.0/16"
	firstInside = "10.96.0.1"
	dnsAddress  = "10.96.0.10"
	domain      = "cluster.local"
)

// makeNetwork gives the namespace a loopback, an address of the node, and forwarding. The default route leads into a bridge without
// ports, so that addresses of services can be routed before kube-proxy rewrites them, and nothing leaves.
func makeNetwork() error {
	for _, command := range []string{
		"ip link set lo up",
		"ip link add node0 type bridge",
		"ip addr add " + nodeAddress + "/24 dev node0",
		"ip link set node0 up",
		"ip route add default via 10.243.0.254 dev node0",
	} {
		if err := run(strings.Fields(command)...); err != nil {
			return err
		}
	}
	for file, value := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward": "1",
		// A reply between two pods of the bridge must pass the rules that rewrote the request.
		"/proc/sys/net/bridge/bridge-nf-call-iptables": "1",
	} {
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set %s: %w", file, err)
		}
	}
	return nil
}

// writePodNetwork writes the configuration by which containerd connects pods: a bridge, and addresses of one subnet.
func writePodNetwork(folder string) error {
	return os.WriteFile(filepath.Join(folder, "10-bridge.conflist"), []byte(`{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.244.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
`), 0o644)
}

// writeHosts lets the command resolve these names to the node.
func writeHosts(work, names string) error {
	own := filepath.Join(work, "hosts")
	text := "127.0.0.1 localhost\n" + nodeAddress + " " + nodeName + " " + strings.ReplaceAll(names, ",", " ") + "\n"
	if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
		return err
	}
	return run("mount", "--bind", own, "/etc/hosts")
}

// run runs a command to its end, with its output in the error.
func run(command ...string) error {
	output, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
