package main

import (
	"strings"
	"testing"
)

const page = `# HELP starling_connections Open connections
# TYPE starling_connections gauge
starling_connections{encoding="json"} 40
starling_connections{encoding="messagepack",tenant="a } b"} 2.5 1796047292898
starling_connections_total 9000
starling_other 7
`

func TestTheSeriesOfAMetricAreAddedUp(t *testing.T) {
	got, err := sum(strings.NewReader(page), "starling_connections")
	if err != nil || got != 42.5 {
		t.Fatalf("got %v, %v", got, err)
	}
	got, err = sum(strings.NewReader(page), "starling_other")
	if err != nil || got != 7 {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestAMetricThatIsNotThereIsAnError(t *testing.T) {
	for _, name := range []string{"starling_connection", "starling_missing"} {
		if got, err := sum(strings.NewReader(page), name); err == nil {
			t.Errorf("%s is %v", name, got)
		}
	}
	if _, err := sum(strings.NewReader("starling_connections{} many\n"), "starling_connections"); err == nil {
		t.Error("a value that is not a number is accepted")
	}
}
