// metrics-adapter serves the gauges of pods as custom metrics (custom.metrics.k8s.io/v1beta2), for the HorizontalPodAutoscaler.
//
// It reads the /metrics page of each pod when it is asked, so it needs no Prometheus. A production cluster has an adapter that asks
// its Prometheus instead.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	group = "custom.metrics.k8s.io"
	// The longest time to answer, reading all pods.
	answerLimit = 10 * time.Second
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	address := flag.String("listen", "", "address to listen on")
	certificate := flag.String("tls-cert-file", "", "certificate of this server")
	key := flag.String("tls-private-key-file", "", "its key")
	front := flag.String("requestheader-client-ca-file", "", "authority of the API server's client certificate: nobody else may ask")
	names := flag.String("metrics", "", "the metrics to serve, with commas between")
	port := flag.Int("port", 9090, "port of the pods' /metrics")
	flag.Parse()
	if err := serve(*kubeconfig, *address, *certificate, *key, *front, strings.Split(*names, ","), *port); err != nil {
		log.Fatal(err)
	}
}

func serve(kubeconfig, address, certificate, key, front string, names []string, port int) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	authorities := x509.NewCertPool()
	pem, err := os.ReadFile(front)
	if err != nil {
		return err
	}
	if !authorities.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", front)
	}
	adapter := &adapter{pods: client.CoreV1(), names: names, port: port, scraper: &http.Client{Timeout: 3 * time.Second}}
	server := &http.Server{
		Addr:              address,
		Handler:           adapter.routes(),
		ReadHeaderTimeout: answerLimit,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			ClientCAs:  authorities,
			ClientAuth: tls.RequireAndVerifyClientCert,
		},
	}
	return server.ListenAndServeTLS(certificate, key)
}

// routes serves the discovery of the group, and the values.
func (adapter *adapter) routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /apis/"+group+"/{version}", func(out http.ResponseWriter, request *http.Request) {
		answer(out, adapter.resources(request.PathValue("version")))
	})
	routes.HandleFunc("GET /apis/"+group+"/{version}/namespaces/{namespace}/pods/{pod}/{metric}", func(out http.ResponseWriter, request *http.Request) {
		ctx, cancel := context.WithTimeout(request.Context(), answerLimit)
		defer cancel()
		values, err := adapter.values(ctx, query{
			namespace: request.PathValue("namespace"),
			pod:       request.PathValue("pod"),
			metric:    request.PathValue("metric"),
			selector:  request.URL.Query().Get("labelSelector"),
			version:   request.PathValue("version"),
		})
		if err != nil {
			log.Print(err)
			out.Header().Set("content-type", "application/json")
			out.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(out).Encode(metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
				Status:   metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Message: err.Error(), Code: http.StatusNotFound,
			})
			return
		}
		answer(out, values)
	})
	return routes
}

func (adapter *adapter) resources(version string) *metav1.APIResourceList {
	list := &metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: group + "/" + version,
	}
	for _, name := range adapter.names {
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: "pods/" + name, Namespaced: true, Kind: "MetricValueList", Verbs: metav1.Verbs{"get"},
		})
	}
	return list
}

func answer(out http.ResponseWriter, value any) {
	out.Header().Set("content-type", "application/json")
	if err := json.NewEncoder(out).Encode(value); err != nil {
		log.Print(err)
	}
}
