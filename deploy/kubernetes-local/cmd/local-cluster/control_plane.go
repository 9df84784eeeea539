package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
)

// writeSecrets makes two authorities, one for Kubernetes and one for requests that the API server passes on, and what each part needs.
func (cluster *cluster) writeSecrets() error {
	ca, err := newAuthority(cluster.secrets, "ca")
	if err != nil {
		return err
	}
	front, err := newAuthority(cluster.secrets, "front-proxy-ca")
	if err != nil {
		return err
	}
	node := net.ParseIP(nodeAddress)
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain}
	err = errors.Join(
		ca.server("apiserver", names, node, net.ParseIP(firstInside), net.ParseIP("127.0.0.1")),
		ca.server("kubelet-server", []string{nodeName}, node),
		ca.client("admin", "admin", "system:masters"),
		ca.client("apiserver-kubelet", "apiserver-kubelet", "system:masters"),
		ca.client("controller-manager", "system:kube-controller-manager"),
		ca.client("scheduler", "system:kube-scheduler"),
		ca.client("kubelet", "system:node:"+nodeName, "system:nodes"),
		ca.client("proxy", "system:kube-proxy"),
		front.client("front-proxy", "front-proxy"),
		writeServiceAccountKeys(cluster.secrets),
	)
	for _, user := range []string{"admin", "controller-manager", "scheduler", "kubelet", "proxy"} {
		err = errors.Join(err, writeKubeconfig(cluster.kubeconfig(user), apiServer, cluster.secrets, user))
	}
	return err
}

// startControlPlane starts etcd, the API server, the controllers and the scheduler.
func (cluster *cluster) startControlPlane(ctx context.Context) error {
	// The data is thrown away with the cluster, so that it need not survive a power cut.
	err := cluster.start("etcd", "--data-dir", filepath.Join(cluster.options.work, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "warn")
	if err != nil {
		return err
	}
	err = cluster.start("kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+nodeAddress,
		"--service-cluster-ip-range="+services,
		"--authorization-mode=Node,RBAC",
		// PodSecurity, ResourceQuota, LimitRanger and the others that are on by default stay on.
		"--enable-admission-plugins=NodeRestriction",
		// As nearly every cluster has it: it is up to Pod Security to refuse privileged pods.
		"--allow-privileged",
		"--anonymous-auth=false",
		"--tls-cert-file="+cluster.secret("apiserver.crt"),
		"--tls-private-key-file="+cluster.secret("apiserver.key"),
		"--client-ca-file="+cluster.secret("ca.crt"),
		"--kubelet-certificate-authority="+cluster.secret("ca.crt"),
		"--kubelet-client-certificate="+cluster.secret("apiserver-kubelet.crt"),
		"--kubelet-client-key="+cluster.secret("apiserver-kubelet.key"),
		"--service-account-issuer=https://kubernetes.default.svc."+domain,
		"--service-account-key-file="+cluster.secret("service-accounts.pub"),
		"--service-account-signing-key-file="+cluster.secret("service-accounts.key"),
		"--requestheader-client-ca-file="+cluster.secret("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+cluster.secret("front-proxy.crt"),
		"--proxy-client-key-file="+cluster.secret("front-proxy.key"),
		"--enable-aggregator-routing",
	)
	if err != nil {
		return err
	}
	ready := func() error {
		_, err := cluster.kubectl("", "get", "--raw", "/readyz")
		return err
	}
	if err := cluster.wait(ctx, "the API server", ready); err != nil {
		return err
	}
	controllers := cluster.kubeconfig("controller-manager")
	err = cluster.start("kube-controller-manager",
		"--kubeconfig="+controllers, "--authentication-kubeconfig="+controllers, "--authorization-kubeconfig="+controllers,
		"--leader-elect=false", "--use-service-account-credentials",
		"--root-ca-file="+cluster.secret("ca.crt"),
		"--service-account-private-key-file="+cluster.secret("service-accounts.key"),
		// Every 15 s by default; the phases of a short run would only wait for it.
		"--horizontal-pod-autoscaler-sync-period=5s",
	)
	if err != nil {
		return err
	}
	scheduler := cluster.kubeconfig("scheduler")
	return cluster.start("kube-scheduler",
		"--kubeconfig="+scheduler, "--authentication-kubeconfig="+scheduler, "--authorization-kubeconfig="+scheduler,
		"--leader-elect=false")
}

// kubectl runs kubectl with a kubeconfig and an input, and returns its output.
func kubectl(kubeconfig, input string, arguments ...string) (string, error) {
	command := exec.Command("kubectl", append([]string{"--kubeconfig", kubeconfig, "--request-timeout=20s"}, arguments...)...)
	command.Stdin = strings.NewReader(input)
	var output, complaint bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaint
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(complaint.String()))
	}
	return output.String(), nil
}
