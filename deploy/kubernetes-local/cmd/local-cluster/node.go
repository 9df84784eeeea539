package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The image that holds the namespaces of pods.
const pauseImage = "starling.local/pause:1"

// startContainerd starts containerd and gives it the images.
func (cluster *cluster) startContainerd(ctx context.Context) error {
	work := cluster.options.work
	if err := writePodNetwork(filepath.Join(work, "cni")); err != nil {
		return err
	}
	plugins, err := cniPlugins()
	if err != nil {
		return err
	}
	config, err := cluster.config("containerd.toml", fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # No AppArmor profile is loaded for what runs in a mount namespace.
  disable_apparmor = true
  # The limits of a sandbox may forbid to lower a score.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = %q
  conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
`, containerdSocket, pauseImage, plugins, filepath.Join(work, "cni")))
	if err != nil {
		return err
	}
	program, err := exec.LookPath("containerd")
	if err != nil {
		return errors.New("containerd is not installed; Debian: apt-get install containerd runc containernetworking-plugins")
	}
	if err := cluster.start(program, "--config", config); err != nil {
		return err
	}
	serves := func() error { return run("ctr", "--address", containerdSocket, "version") }
	if err := cluster.wait(ctx, "containerd", serves); err != nil {
		return err
	}
	own := []string{pauseImage + "=" + filepath.Join(cluster.options.bin, "pause")}
	return loadImages(work, append(own, cluster.options.images...))
}

// cniPlugins finds the folder with the CNI plugins.
func cniPlugins() (string, error) {
	for _, folder := range []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(folder, "bridge")); err == nil {
			return folder, nil
		}
	}
	return "", errors.New("the CNI plugins are not installed; Debian: apt-get install containernetworking-plugins")
}

// startNode starts the kubelet and kube-proxy, and waits until the node is ready.
func (cluster *cluster) startNode(ctx context.Context) error {
	// Pods get no name server but the cluster's.
	resolver, err := cluster.config("resolv.conf", "")
	if err != nil {
		return err
	}
	kubelet, err := cluster.config("kubelet.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: true }
  x509: { clientCAFile: %[2]q }
authorization: { mode: Webhook }
tlsCertFile: %[3]q
tlsPrivateKeyFile: %[4]q
containerRuntimeEndpoint: unix://%[5]s
cgroupDriver: cgroupfs
cgroupRoot: /%[6]s
failCgroupV1: false
failSwapOn: false
clusterDNS: [%[7]s]
clusterDomain: %[8]s
resolvConf: %[9]q
# Images can't be pulled again, and the disk of a test machine may be full for other reasons.
imageGCHighThresholdPercent: 100
evictionHard: { "nodefs.available": "0%%", "imagefs.available": "0%%", "memory.available": "100Mi" }
localStorageCapacityIsolation: false
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
`, nodeAddress, cluster.secret("ca.crt"), cluster.secret("kubelet-server.crt"), cluster.secret("kubelet-server.key"),
		containerdSocket, cgroupRoot, dnsAddress, domain, resolver))
	if err != nil {
		return err
	}
	err = cluster.start("kubelet", "--config", kubelet, "--kubeconfig", cluster.kubeconfig("kubelet"),
		"--hostname-override", nodeName, "--node-ip", nodeAddress, "--root-dir", "/var/lib/kubelet",
		"--node-labels", "topology.kubernetes.io/zone=local")
	if err != nil {
		return err
	}
	proxy, err := cluster.config("proxy.yaml", fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: { kubeconfig: %q }
clusterCIDR: %s
mode: %s
hostnameOverride: %s
conntrack: { maxPerCore: 0, min: 0 }
`, cluster.kubeconfig("proxy"), podNetwork, cluster.options.proxyMode, nodeName))
	if err != nil {
		return err
	}
	if err := cluster.start("kube-proxy", "--config", proxy); err != nil {
		return err
	}
	return cluster.wait(ctx, "the node", func() error {
		ready, err := cluster.kubectl("", "get", "node", nodeName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && strings.TrimSpace(ready) != "True" {
			err = errors.New("the node is not ready")
		}
		return err
	})
}
