package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/core/v1"
	metrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
)

// The largest /metrics page that is read, in bytes.
const pageMax = 4 << 20

// An adapter reads metrics of pods.
type adapter struct {
	pods client.PodsGetter
	// The metrics that it serves.
	names   []string
	port    int
	scraper *http.Client
}

// A query names one pod, or all (`*`) that match a selector.
type query struct {
	namespace, pod, metric, selector, version string
}

// values reads a metric of the pods of a query. A pod that can't be read is left out: the autoscaler has rules for those.
func (adapter *adapter) values(ctx context.Context, query query) (*metrics.MetricValueList, error) {
	if !slices.Contains(adapter.names, query.metric) {
		return nil, fmt.Errorf("the metric %s is not served", query.metric)
	}
	options := metav1.ListOptions{LabelSelector: query.selector}
	if query.pod != "*" {
		options.FieldSelector = "metadata.name=" + query.pod
	}
	pods, err := adapter.pods.Pods(query.namespace).List(ctx, options)
	if err != nil {
		return nil, err
	}
	list := &metrics.MetricValueList{TypeMeta: metav1.TypeMeta{Kind: "MetricValueList", APIVersion: group + "/" + query.version}}
	for _, pod := range pods.Items {
		if pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "" {
			continue
		}
		value, err := adapter.read(ctx, pod.Status.PodIP, query.metric)
		if err != nil {
			log.Printf("%s/%s: %v", pod.Namespace, pod.Name, err)
			continue
		}
		list.Items = append(list.Items, metrics.MetricValue{
			DescribedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "/v1", Namespace: pod.Namespace, Name: pod.Name},
			Metric:          metrics.MetricIdentifier{Name: query.metric},
			Timestamp:       metav1.NewTime(time.Now()),
			Value:           *resource.NewMilliQuantity(int64(value*1000), resource.DecimalSI),
		})
	}
	return list, nil
}

// read sums the series of a metric on the page of one pod.
func (adapter *adapter) read(ctx context.Context, address, metric string) (float64, error) {
	url := "http://" + net.JoinHostPort(address, strconv.Itoa(adapter.port)) + "/metrics"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := adapter.scraper.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, response.Status)
	}
	return sum(io.LimitReader(response.Body, pageMax), metric)
}

// sum adds up the series of a metric in the text format of Prometheus.
func sum(page io.Reader, metric string) (float64, error) {
	var total float64
	found := false
	lines := bufio.NewScanner(page)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), metric)
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		if end := strings.LastIndex(rest, "}"); end >= 0 {
			rest = rest[end+1:]
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0, fmt.Errorf("%s has a line without a value", metric)
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", metric, err)
		}
		total += value
		found = true
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if !found {
		return 0, fmt.Errorf("there is no %s", metric)
	}
	return total, nil
}
