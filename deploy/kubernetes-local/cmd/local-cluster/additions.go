package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The ports of the additions, on the node's address.
const (
	dnsPort            = 53
	metricsServerPort  = 4443
	metricsAdapterPort = 4444
)

// startAdditions starts what clusters have beside Kubernetes itself: names of services, metrics, and an ingress controller. They run
// on the node and not in pods, behind services without a selector.
func (cluster *cluster) startAdditions(ctx context.Context) error {
	authority, err := os.ReadFile(cluster.secret("ca.crt"))
	if err != nil {
		return err
	}
	objects := additionObjects(base64.StdEncoding.EncodeToString(authority))
	if _, err := cluster.kubectl(objects, "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	for _, file := range cluster.options.objects {
		if _, err := cluster.kubectl("", "apply", "--server-side", "-f", file); err != nil {
			return err
		}
	}
	for _, start := range []func() error{cluster.startNames, cluster.startMetrics, cluster.startIngress} {
		if err := start(); err != nil {
			return err
		}
	}
	for _, service := range []string{"v1beta1.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"} {
		available := func() error {
			_, err := cluster.kubectl("", "wait", "--for=condition=Available", "--timeout=0", "apiservice/"+service)
			return err
		}
		if err := cluster.wait(ctx, service, available); err != nil {
			return err
		}
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(dnsAddress, "53"))
	}}
	resolved := func() error {
		_, err := resolver.LookupHost(ctx, "kubernetes.default.svc."+domain+".")
		return err
	}
	if err := cluster.wait(ctx, "the names of services", resolved); err != nil {
		return err
	}
	measured := func() error {
		_, err := cluster.kubectl("", "get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/"+nodeName)
		return err
	}
	return cluster.wait(ctx, "the node's metrics", measured)
}

// startNames starts CoreDNS.
func (cluster *cluster) startNames() error {
	corefile, err := cluster.config("Corefile", fmt.Sprintf(`.:%d {
  bind %s
  errors
  kubernetes %s {
    kubeconfig %s
  }
  cache 5
}
`, dnsPort, nodeAddress, domain, cluster.kubeconfig("admin")))
	if err != nil {
		return err
	}
	return cluster.start("coredns", "-conf", corefile)
}

// startMetrics starts the servers of the resource metrics and of the custom metrics.
func (cluster *cluster) startMetrics() error {
	ca := &authority{folder: cluster.secrets}
	if err := ca.load("ca"); err != nil {
		return err
	}
	names := []string{"metrics-server.kube-system.svc", "metrics-adapter.kube-system.svc"}
	if err := ca.server("metrics", names, net.ParseIP(nodeAddress)); err != nil {
		return err
	}
	admin := cluster.kubeconfig("admin")
	err := cluster.start("metrics-server",
		"--kubeconfig="+admin, "--authentication-kubeconfig="+admin, "--authorization-kubeconfig="+admin,
		"--bind-address="+nodeAddress, fmt.Sprintf("--secure-port=%d", metricsServerPort),
		"--tls-cert-file="+cluster.secret("metrics.crt"), "--tls-private-key-file="+cluster.secret("metrics.key"),
		"--requestheader-client-ca-file="+cluster.secret("front-proxy-ca.crt"),
		"--kubelet-certificate-authority="+cluster.secret("ca.crt"),
		"--kubelet-client-certificate="+cluster.secret("apiserver-kubelet.crt"),
		"--kubelet-client-key="+cluster.secret("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP", "--metric-resolution=10s", "--kubelet-request-timeout=5s")
	if err != nil {
		return err
	}
	return cluster.start("metrics-adapter",
		"--kubeconfig="+admin, fmt.Sprintf("--listen=%s:%d", nodeAddress, metricsAdapterPort),
		"--tls-cert-file="+cluster.secret("metrics.crt"), "--tls-private-key-file="+cluster.secret("metrics.key"),
		"--requestheader-client-ca-file="+cluster.secret("front-proxy-ca.crt"),
		"--metrics=starling_connections")
}

// startIngress starts Traefik, if it is there.
func (cluster *cluster) startIngress() error {
	if cluster.options.traefik == "" {
		return nil
	}
	program, err := exec.LookPath(cluster.options.traefik)
	if err != nil {
		return err
	}
	if program, err = filepath.Abs(program); err != nil {
		return err
	}
	// Traefik reads this variable when it runs outside of a pod.
	if err := os.Setenv("KUBECONFIG", cluster.kubeconfig("admin")); err != nil {
		return err
	}
	return cluster.start(program,
		"--entrypoints.web.address="+nodeAddress+":80",
		"--providers.kubernetesingress.ingressclass=traefik",
		"--providers.kubernetesingress.ingressendpoint.ip="+nodeAddress,
		"--global.checknewversion=false", "--global.sendanonymoususage=false", "--log.level=INFO")
}

// additionObjects are the services of the additions, and the registrations of the metrics.
func additionObjects(authority string) string {
	objects := []string{
		serviceObject("kube-dns", dnsAddress, "UDP", dnsPort, dnsPort),
		serviceObject("metrics-server", "", "TCP", 443, metricsServerPort),
		serviceObject("metrics-adapter", "", "TCP", 443, metricsAdapterPort),
		registration("metrics.k8s.io", "v1beta1", "metrics-server", authority),
		registration("custom.metrics.k8s.io", "v1beta2", "metrics-adapter", authority),
		`apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: { name: traefik }
spec: { controller: traefik.io/ingress-controller }
`,
	}
	return strings.Join(objects, "---\n")
}

// serviceObject is a service with one endpoint on the node. For DNS both protocols are served.
func serviceObject(name, address, protocol string, port, target int) string {
	protocols := []string{protocol}
	if protocol == "UDP" {
		protocols = append(protocols, "TCP")
	}
	var servicePorts, slicePorts []string
	for _, protocol := range protocols {
		servicePorts = append(servicePorts, fmt.Sprintf("{ name: %s, port: %d, protocol: %s }", strings.ToLower(protocol), port, protocol))
		slicePorts = append(slicePorts, fmt.Sprintf("{ name: %s, port: %d, protocol: %s }", strings.ToLower(protocol), target, protocol))
	}
	cluster := ""
	if address != "" {
		cluster = "clusterIP: " + address + ", "
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: { name: %[1]s, namespace: kube-system }
spec: { %[2]sports: [%[3]s] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: %[1]s-node, namespace: kube-system, labels: { kubernetes.io/service-name: %[1]s } }
addressType: IPv4
endpoints: [{ addresses: [%[4]s], conditions: { ready: true } }]
ports: [%[5]s]
`, name, cluster, strings.Join(servicePorts, ", "), nodeAddress, strings.Join(slicePorts, ", "))
}

// registration tells the API server which service answers for a group.
func registration(group, version, service, authority string) string {
	return fmt.Sprintf(`apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: { name: %[2]s.%[1]s }
spec:
  group: %[1]s
  version: %[2]s
  service: { name: %[3]s, namespace: kube-system }
  caBundle: %[4]s
  groupPriorityMinimum: 100
  versionPriority: 100
`, group, version, service, authority)
}
