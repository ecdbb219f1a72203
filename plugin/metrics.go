package main

import (
	"math"
	"time"

	"fluent-bit-defender/plugin/flb"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/share"
)

//go:generate go test -count=1 -run ^TestMetricsPage . -update

// reading is what the metrics are read from: one look at the engine.
type reading struct {
	pull.Stats
	started time.Time    // local: the instance's Init
	pods    *share.Stats // nil: the stanza does not share its work
}

// metric is a metric and how it is read. read fills as many numbers as Metric.Width says, and must not allocate.
type metric struct {
	flb.Metric
	theme string
	wrong string // what to look at, or to do, when it is not as it should be
	read  func(r *reading, v []float64)
}

const (
	themeAlerts     = "Alerts"
	themeService    = "Requests"
	themeTime       = "How far it is"
	themeCredential = "Credentials"
	themeState      = "State"
	themePods       = "Pods that share"
)

// metrics are all that the plugin tells through Fluent Bit's own endpoint. docs/metrics.md is generated from them.
var metrics = []metric{
	counter(themeAlerts, "rows_received_total", func(r *reading) uint64 { return r.Rows },
		"Rows of answers, those that came before included.",
		"With nothing queued it equals "+
			"`alerts_delivered_total` + `rows_raw_total` + `duplicates_dropped_total`. "+
			"It stands still: see `requests_total`; with only `ok` there, "+
			"the service has no rows for this tenant and these filters."),
	counter(themeAlerts, "alerts_delivered_total", func(r *reading) uint64 { return r.Delivered },
		"Alerts that Fluent Bit took as records.",
		"It falls behind `rows_received_total` less `duplicates_dropped_total`: Fluent Bit does not take "+
			"what was fetched; see `queue_bytes` and `paused`. "+
			"Together with `rows_raw_total` it is Fluent Bit's own `fluentbit_input_records_total` "+
			"of the same `name`, which may be a batch ahead."),
	counter(themeAlerts, "rows_raw_total", func(r *reading) uint64 { return r.Raw },
		"Rows that could not become records and were delivered raw, with the reason.",
		"It rises: look at the field `error` of records that have `raw`. Too large: raise `max_alert_size`. "+
			"Anything else is the service's, and worth a report to Microsoft."),
	counter(themeAlerts, "duplicates_dropped_total", func(r *reading) uint64 { return r.Duplicates },
		"Rows that were not delivered because they had come before.",
		"It rises with every poll by design: polls overlap by `overlap`, and each row in there comes again. "+
			"Many times `alerts_delivered_total`: a smaller `overlap` or a longer `poll_interval` saves traffic."),
	counter(themeAlerts, "rows_repaired_total", func(r *reading) uint64 { return r.Repaired },
		"Rows delivered in which U+FFFD stands in for text that was no UTF-8.",
		"It rises: the service sends broken text; nothing else of these alerts is lost."),
	counter(themeAlerts, "delivered_bytes_total", func(r *reading) uint64 { return r.DeliveredSize },
		"Bytes of the records that Fluent Bit took.",
		"Its rate is what outputs and `mem_buf_limit` must be sized for."),
	gauge(themeAlerts, "queue_bytes", func(r *reading) float64 { return float64(r.Queued) },
		"Bytes of records fetched and not yet taken by Fluent Bit.",
		"It stays near `queue_limit`: the download waits for Fluent Bit, "+
			"which takes `batch_size` once a second. Raise `batch_size`, or see why outputs are slow."),
	gauge(themeAlerts, "paused", func(r *reading) float64 { return truth(r.Paused) },
		"1 while Fluent Bit pauses this input because its buffers are full, else 0.",
		"1 for long, or often: an output is slow or down; see `fluentbit_output_retries_total`. "+
			"`storage.type filesystem` in the stanza buffers on disk instead. "+
			"While it is 1, the metrics of the last `defender` stanza stand still, whichever is paused."),
	{
		theme: themeService, read: requests,
		Metric: flb.Metric{Kind: flb.Counter, Name: "requests_total", Label: "outcome", Values: pull.Outcomes[:],
			Help: "Requests for alerts, by what they came to."},
		wrong: "Any outcome but `ok` rises: the log has a line for it. See the outcomes below.",
	},
	{
		theme: themeService, read: durations,
		Metric: flb.Metric{Kind: flb.Histogram, Name: "request_duration_seconds", Bounds: pull.SecondsBounds[:],
			Help: "Seconds from a request for alerts to the end of its answer, waiting for Fluent Bit included."},
		wrong: "Long while `queue_bytes` is high: it waits for Fluent Bit. " +
			"Long otherwise: the network or the service is slow; a smaller `max_window` makes smaller answers.",
	},
	counter(themeService, "received_bytes_total", func(r *reading) uint64 { return r.BytesRead },
		"Bytes of answers, decompressed.",
		"Many times `delivered_bytes_total`: as for `duplicates_dropped_total`."),
	counter(themeService, "retries_total", func(r *reading) uint64 { return r.Retries },
		"Failures after which the same was asked again.",
		"It rises: `requests_total` and the log say which failures."),
	{
		theme: themeService, read: throttled,
		Metric: flb.Metric{Kind: flb.Counter, Name: "throttled_seconds_total", Label: "by", Values: []string{"service",
			"plugin"},
			Help: "Seconds of waits to spare the service: those it asked for, " +
				"and those of the plugin's own limit of requests a minute."},
		wrong: "`service` rises: someone asks too often with this application, " +
			"perhaps other pollers of the same tenant. " +
			"`plugin` rises: several stanzas of one tenant share the limit; a longer `poll_interval` helps both.",
	},
	gauge(themeTime, "watermark_timestamp_seconds", func(r *reading) float64 { return unix(r.Watermark) },
		"Unix time before which every alert was fetched, by the service's clock. NaN: not known yet.",
		"It stands still: no request succeeds, or a span is asked again and again; the log says why."),
	gauge(themeTime, "behind_seconds", behind,
		"The service's time now less the settled time. "+
			"At rest it lies between overlap and overlap + 1.1 poll_interval. NaN: not known yet.",
		"More than `overlap` and a few `poll_interval`s: a backlog (after a stop, or with a long "+
			"`initial_lookback`) if it falls, trouble if it grows: see `requests_total`."),
	gauge(themeTime, "last_success_timestamp_seconds", func(r *reading) float64 { return unix(r.LastSuccess) },
		"Unix time at which the last poll that read all it asked for began, by the service's clock. "+
			"NaN: none yet.",
		"Older than a few `poll_interval`s: see `requests_total` and the log. "+
			"Alert on it together with `start_timestamp_seconds`, since a stanza that never succeeded has NaN here."),
	gauge(themeTime, "start_timestamp_seconds", func(r *reading) float64 { return unix(r.started) },
		"Unix time at which this input started. Its counters count from then on.",
		"It changes without a restart or a reload of yours: something restarts Fluent Bit."),
	gauge(themeTime, "unread_ranges", func(r *reading) float64 { return float64(r.Unread) },
		"Spans that keep failing and are asked again, in halves down to a minute, while newer alerts go on.",
		"Above 0: the alerts of that span are not there yet. The log names the span and the failure "+
			"at error level; it is asked again with a growing pause until it can be read."),
	gauge(themeTime, "tenants", func(r *reading) float64 { return float64(r.Sources) },
		"Tenants that are pulled: 1, or those of tenants_file.",
		"It is not the number of entries in `tenants_file`: entries with a fault, "+
			"or tenants that cannot begin; the log names them."),
	gauge(themeTime, "tenants_failing", func(r *reading) float64 { return float64(r.Failing) },
		"Of these, those whose last request failed.",
		"Above 0 for long: the log names them with the reason, and `defenderctl check` asks them now. "+
			"Of many tenants all other metrics here show the one that is worst."),
	gauge(themeTime, "api", func(r *reading) float64 { return float64(r.OnGraph) },
		"0 while the SIEM API is pulled, 1 while Microsoft Graph is; "+
			"with tenants_file the tenants that are pulled from Graph.",
		"It becomes 1 by itself: with `successor graph` the SIEM API was gone for `successor_after`, "+
			"and Graph goes on; the log says since when. "+
			"Rules and dashboards see Graph's fields from then on (docs/migration.md)."),
	counter(themeCredential, "token_renewals_total", func(r *reading) uint64 { return r.Client.Tokens },
		"Access tokens that Entra ID gave, the first included.",
		"One about every hour is normal. "+
			"It rises with every poll: the service refuses the tokens; see `unauthorized` in `requests_total`. "+
			"It stands still for hours: see `token` there."),
	gauge(themeCredential, "token_expiry_timestamp_seconds",
		func(r *reading) float64 { return unix(r.Client.TokenEnds) },
		"Unix time at which the access token ends, by the local clock. NaN: none is held.",
		"NaN, or in the past, for minutes: no token comes; see `token` in `requests_total`."),
	gauge(themeCredential, "certificate_expiry_timestamp_seconds",
		func(r *reading) float64 { return unix(r.Client.CertificateEnds) },
		"Unix time at which the client certificate ends. NaN: none is used, or none was read yet.",
		"Less than 30 days away: replace the file of `client_certificate_file`, after the new certificate "+
			"was uploaded to the application. It is read again when it changes. "+
			"When a client secret ends, nobody tells the plugin: note that date elsewhere."),
	counter(themeState, "commits_total", func(r *reading) uint64 { return r.Commits },
		"Commits to the state.",
		"It stands still while `alerts_delivered_total` rises: "+
			"what was delivered since then comes again after a crash."),
	counter(themeState, "commit_failures_total", func(r *reading) uint64 { return r.CommitFailures },
		"Commits to the state that failed and are tried again.",
		"It rises: the file of `db` cannot be written (disk full, read-only, permissions); "+
			"the log has the error."),
	gauge(themeState, "remembered_rows", func(r *reading) float64 { return float64(r.IDs) },
		"Rows remembered, so that none is delivered twice. About 30 bytes of memory each.",
		"Near 5 million: `overlap` or `ago` spans too many alerts; see `seen_forgotten_total`."),
	counter(themeState, "seen_forgotten_total", func(r *reading) uint64 { return r.Forgotten },
		"Rows forgotten early because more than 5 million would have had to be remembered.",
		"It rises: these alerts may come twice. A smaller `overlap` or `ago` helps."),
	gauge(themePods, "worker", ofPods(math.NaN(), func(p *share.Stats) float64 { return truth(p.Worker) }),
		"1 while this pod holds a Lease and may pull, 0 while it stands by. NaN: db is not kubernetes://.",
		"0 in all pods: nobody pulls; the log of each says why. A pod that stands by is no trouble."),
	gauge(themePods, "sources_owned", ofPods(math.NaN(), func(p *share.Stats) float64 { return float64(p.Owned) }),
		"Sources (tenants with their filters) that this pod pulls. NaN: db is not kubernetes://.",
		"The sum over all pods is less than there are tenants for minutes: "+
			"some have no owner; the logs name them."),
	gauge(themePods, "sources_configured",
		ofPods(math.NaN(), func(p *share.Stats) float64 { return float64(p.Configured) }),
		"Sources that this pod's stanzas have, whichever pod pulls them. NaN: db is not kubernetes://.",
		"Pods differ for longer than a rollout takes: they have different tenants, "+
			"and what no worker has is pulled by none."),
	counter(themePods, "takeovers_total", ofPods(0, func(p *share.Stats) uint64 { return p.Takeovers }),
		"Sources taken over from pods that died, froze or were cut off.",
		"It rises: pods end without saying so; what they delivered in their last `takeover_overlap` came again."),
	counter(themePods, "fenced_total", ofPods(0, func(p *share.Stats) uint64 { return p.Fenced }),
		"Times this pod stopped delivering because it could not renew its Lease in time.",
		"It rises: the Kubernetes API is slow or away, or the pod gets no CPU; "+
			"see `lease_renew_failures_total`."),
	counter(themePods, "lease_renew_failures_total", ofPods(0, func(p *share.Stats) uint64 { return p.RenewFailures }),
		"Renewals of the Lease that failed. Each is tried again in two seconds.",
		"It rises steadily: look at the Kubernetes API; the log has the error."),
}

// counter and gauge are metrics of one number.
func counter(theme, name string, read func(*reading) uint64, help, wrong string) metric {
	return metric{flb.Metric{Kind: flb.Counter, Name: name, Help: help}, theme, wrong,
		func(r *reading, v []float64) { v[0] = float64(read(r)) }}
}

func gauge(theme, name string, read func(*reading) float64, help, wrong string) metric {
	return metric{flb.Metric{Kind: flb.Gauge, Name: name, Help: help}, theme, wrong,
		func(r *reading, v []float64) { v[0] = read(r) }}
}

// ofPods reads a metric of stanzas that share their work; others have the value none.
func ofPods[N uint64 | float64](none N, read func(*share.Stats) N) func(*reading) N {
	return func(r *reading) N {
		if r.pods == nil {
			return none
		}
		return read(r.pods)
	}
}

func requests(r *reading, v []float64) {
	for i, n := range r.Requests {
		v[i] = float64(n)
	}
}

func durations(r *reading, v []float64) {
	for i, n := range r.Seconds.Counts {
		v[i] = float64(n)
	}
	v[len(r.Seconds.Counts)] = r.Seconds.Sum
}

func throttled(r *reading, v []float64) { v[0], v[1] = r.Throttled.Seconds(), r.Client.Held.Seconds() }

func behind(r *reading) float64 {
	if r.Now.IsZero() || r.Watermark.IsZero() {
		return math.NaN()
	}
	return r.Now.Sub(r.Watermark).Seconds()
}

// unix is a time in seconds. A time that is not known is NaN, not 0: no rule about its age fires, and no chart shows
// 1970. The series cannot be left out instead, because the core may read while it would be made later.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return math.NaN()
	}
	return float64(t.UnixMicro()) / 1e6
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
