package deploy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// core are those metrics of Fluent Bit itself that rules and dashboard use.
var core = []string{
	"fluentbit_input_records_total",
	"fluentbit_input_bytes_total",
	"fluentbit_input_ring_buffer_retries_total",
	"fluentbit_input_ring_buffer_retry_failures_total",
	"fluentbit_input_storage_chunks_up",
	"fluentbit_input_storage_chunks_down",
	"fluentbit_input_ingestion_paused",
	"fluentbit_output_proc_records_total",
	"fluentbit_output_retries_total",
	"fluentbit_output_retries_failed_total",
	"fluentbit_output_errors_total",
	"fluentbit_output_dropped_records_total",
}

const prefix = "fluentbit_defender_"

// documented are the plugin's metrics by docs/metrics.md, with the names that a histogram has in expressions.
func documented(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "begins with `"+prefix+"`") {
		t.Fatalf("the names of docs/metrics.md do not begin with %s", prefix)
	}
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| "+
		"(counter|gauge|histogram) \\|").FindAllStringSubmatch(string(page), -1) {
		if m[2] == "histogram" {
			names = append(names, prefix+m[1]+"_bucket", prefix+m[1]+"_count", prefix+m[1]+"_sum")
			continue
		}
		names = append(names, prefix+m[1])
	}
	if len(names) < 20 {
		t.Fatalf("docs/metrics.md has only %d metrics: %v", len(names), names)
	}
	return names
}

// asked returns the metrics that an expression asks for, with what is wrong with it.
func asked(t *testing.T, expr string) []string {
	t.Helper()
	tree, err := parser.ParseExpr(expr)
	if err != nil {
		t.Errorf("%v\nin %s", err, expr)
		return nil
	}
	var names []string
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			for _, m := range v.LabelMatchers {
				if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
					names = append(names, m.Value)
				}
			}
		}
		return nil
	})
	if len(names) == 0 {
		t.Errorf("%s asks for no metric", expr)
	}
	return names
}

// known fails unless each name is the plugin's or one of Fluent Bit's in the list.
func known(t *testing.T, where string, names []string) {
	t.Helper()
	ours := documented(t)
	for _, name := range names {
		if !slices.Contains(ours, name) && !slices.Contains(core, name) {
			t.Errorf("%s: nobody makes %s", where, name)
		}
	}
}
