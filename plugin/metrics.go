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
	{
		theme: themeAlerts, read: count(func(r *reading) uint64 { return r.Rows }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "rows_received_total",
			Help: "Rows of answers, those that came before included."},
		wrong: "With nothing queued it equals " +
			"`alerts_delivered_total` + `rows_raw_total` + `duplicates_dropped_total`. " +
			"It stands still: see `requests_total`; with only `ok` there, " +
			"the service has no rows for this tenant and these filters.",
	},
	{
		theme: themeAlerts, read: count(func(r *reading) uint64 { return r.Delivered }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "alerts_delivered_total",
			Help: "Alerts that Fluent Bit took as records."},
		wrong: "It falls behind `rows_received_total` less `duplicates_dropped_total`: Fluent Bit does not take " +
			"what was fetched; see `queue_bytes` and `paused`. " +
			"Together with `rows_raw_total` it is Fluent Bit's own `fluentbit_input_records_total` " +
			"of the same `name`, which may be a batch ahead.",
	},
	{
		theme: themeAlerts, read: count(func(r *reading) uint64 { return r.Raw }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "rows_raw_total",
			Help: "Rows that could not become records and were handed over raw, with the reason."},
		wrong: "It rises: look at the field `error` of records that have `raw`. Too large: raise `max_alert_size`. " +
			"Anything else is the service's, and worth a report to Microsoft.",
	},
	{
		theme: themeAlerts, read: count(func(r *reading) uint64 { return r.Duplicates }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "duplicates_dropped_total",
			Help: "Rows that were not handed over because they had come before."},
		wrong: "It rises with every poll by design: polls overlap by `overlap`, and each row in there comes again. " +
			"Many times `alerts_delivered_total`: a smaller `overlap` or a longer `poll_interval` saves traffic.",
	},
	{
		theme: themeAlerts, read: count(func(r *reading) uint64 { return r.Repaired }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "rows_repaired_total",
			Help: "Rows handed over in which U+FFFD stands in for text that was no UTF-8."},
		wrong: "It rises: the service sends broken text; nothing else of these alerts is lost.",
	},
	{
		theme: themeAlerts, read: count(func(r *reading) uint64 { return r.DeliveredSize }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "delivered_bytes_total",
			Help: "Bytes of the records that Fluent Bit took."},
		wrong: "Its rate is what outputs and `mem_buf_limit` must be sized for.",
	},
	{
		theme: themeAlerts, read: one(func(r *reading) float64 { return float64(r.Queued) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "queue_bytes",
			Help: "Bytes of records fetched and not yet taken by Fluent Bit."},
		wrong: "It stays near `queue_limit`: the download waits for Fluent Bit, " +
			"which takes `batch_size` once a second. Raise `batch_size`, or see why outputs are slow.",
	},
	{
		theme: themeAlerts, read: one(func(r *reading) float64 { return truth(r.Paused) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "paused",
			Help: "1 while Fluent Bit pauses this input because its buffers are full, else 0."},
		wrong: "1 for long, or often: an output is slow or down; see `fluentbit_output_retries_total`. " +
			"`storage.type filesystem` in the stanza buffers on disk instead. " +
			"While it is 1, the metrics of the last `defender` stanza stand still, whichever is paused.",
	},
	{
		theme: themeService, read: requests,
		Metric: flb.Metric{Kind: flb.Counter, Name: "requests_total",
			Help:  "Requests for alerts, by what they came to.",
			Label: "outcome", Values: pull.Outcomes[:]},
		wrong: "Any outcome but `ok` rises: the log has a line for it. See the outcomes below.",
	},
	{
		theme: themeService, read: durations,
		Metric: flb.Metric{Kind: flb.Histogram, Name: "request_duration_seconds",
			Help:   "Seconds from a request for alerts to the end of its answer, waiting for Fluent Bit included.",
			Bounds: pull.SecondsBounds[:]},
		wrong: "Long while `queue_bytes` is high: it waits for Fluent Bit. " +
			"Long otherwise: the network or the service is slow; a smaller `max_window` makes smaller answers.",
	},
	{
		theme: themeService, read: count(func(r *reading) uint64 { return r.BytesRead }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "received_bytes_total",
			Help: "Bytes of answers, decompressed."},
		wrong: "Many times `delivered_bytes_total`: as for `duplicates_dropped_total`.",
	},
	{
		theme: themeService, read: count(func(r *reading) uint64 { return r.Retries }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "retries_total",
			Help: "Failures after which the same was asked again."},
		wrong: "It rises: `requests_total` and the log say which failures.",
	},
	{
		theme: themeService, read: throttled,
		Metric: flb.Metric{Kind: flb.Counter, Name: "throttled_seconds_total",
			Help: "Seconds of waits to spare the service: those it asked for, " +
				"and those of the plugin's own limit of requests a minute.",
			Label: "by", Values: []string{"service", "plugin"}},
		wrong: "`service` rises: someone asks too often with this application, " +
			"perhaps other pollers of the same tenant. " +
			"`plugin` rises: several stanzas of one tenant share the limit; a longer `poll_interval` helps both.",
	},
	{
		theme: themeTime, read: one(func(r *reading) float64 { return unix(r.Watermark) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "watermark_timestamp_seconds",
			Help: "Unix time before which every alert was fetched, by the service's clock. NaN: not known yet."},
		wrong: "It stands still: no request succeeds, or a span is asked again and again; the log says why.",
	},
	{
		theme: themeTime, read: one(behind),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "behind_seconds",
			Help: "The service's time now less the settled time. " +
				"At rest it lies between overlap and overlap + 1.1 poll_interval. NaN: not known yet."},
		wrong: "More than `overlap` and a few `poll_interval`s: a backlog (after a stop, or with a long " +
			"`initial_lookback`) if it falls, trouble if it grows: see `requests_total`.",
	},
	{
		theme: themeTime, read: one(func(r *reading) float64 { return unix(r.LastSuccess) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "last_success_timestamp_seconds",
			Help: "Unix time at which the last poll that read all it asked for began, by the service's clock. " +
				"NaN: none yet."},
		wrong: "Older than a few `poll_interval`s: see `requests_total` and the log. " +
			"Alert on it together with `start_timestamp_seconds`, since a stanza that never succeeded has NaN here.",
	},
	{
		theme: themeTime, read: one(func(r *reading) float64 { return unix(r.started) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "start_timestamp_seconds",
			Help: "Unix time at which this input started. Its counters count from then on."},
		wrong: "It changes without a restart or a reload of yours: something restarts Fluent Bit.",
	},
	{
		theme: themeTime, read: one(func(r *reading) float64 { return float64(r.Unread) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "unread_ranges",
			Help: "Spans that keep failing and are asked again, in halves down to a minute, while newer alerts go on."},
		wrong: "Above 0: the alerts of that span are not there yet. The log names the span and the failure " +
			"at error level; it is asked again with a growing pause until it can be read.",
	},
	{
		theme: themeTime, read: one(func(r *reading) float64 { return float64(r.Sources) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "tenants",
			Help: "Tenants that are pulled: 1, or those of tenants_file."},
		wrong: "It is not the number of entries in `tenants_file`: entries with a fault, " +
			"or tenants that cannot begin; the log names them.",
	},
	{
		theme: themeTime, read: one(func(r *reading) float64 { return float64(r.Failing) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "tenants_failing",
			Help: "Of these, those whose last request failed."},
		wrong: "Above 0 for long: the log names them with the reason, and `defenderctl check` asks them now. " +
			"Of many tenants all other metrics here show the one that is worst.",
	},
	{
		theme: themeTime, read: one(func(r *reading) float64 { return float64(r.OnGraph) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "api",
			Help: "0 while the SIEM API is pulled, 1 while Microsoft Graph is; " +
				"with tenants_file the tenants that are pulled from Graph."},
		wrong: "It becomes 1 by itself: with `successor graph` the SIEM API was gone for `successor_after`, " +
			"and Graph goes on; the log says since when. " +
			"Rules and dashboards see Graph's fields from then on (docs/migration.md).",
	},
	{
		theme: themeCredential, read: count(func(r *reading) uint64 { return r.Client.Tokens }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "token_renewals_total",
			Help: "Access tokens that Entra ID gave, the first included."},
		wrong: "One about every hour is normal. " +
			"It rises with every poll: the service refuses the tokens; see `unauthorized` in `requests_total`. " +
			"It stands still for hours: see `token` there.",
	},
	{
		theme: themeCredential, read: one(func(r *reading) float64 { return unix(r.Client.TokenEnds) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "token_expiry_timestamp_seconds",
			Help: "Unix time at which the access token ends, by the local clock. NaN: none is held."},
		wrong: "NaN, or in the past, for minutes: no token comes; see `token` in `requests_total`.",
	},
	{
		theme: themeCredential, read: one(func(r *reading) float64 { return unix(r.Client.CertificateEnds) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "certificate_expiry_timestamp_seconds",
			Help: "Unix time at which the client certificate ends. NaN: none is used, or none was read yet."},
		wrong: "Less than 30 days away: replace the file of `client_certificate_file`, after the new certificate " +
			"was uploaded to the application. It is read again when it changes. " +
			"When a client secret ends, nobody tells the plugin: note that date elsewhere.",
	},
	{
		theme: themeState, read: count(func(r *reading) uint64 { return r.Commits }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "commits_total",
			Help: "Commits to the state."},
		wrong: "It stands still while `alerts_delivered_total` rises: " +
			"what was handed over since then comes again after a crash.",
	},
	{
		theme: themeState, read: count(func(r *reading) uint64 { return r.CommitFailures }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "commit_failures_total",
			Help: "Commits to the state that failed and are tried again."},
		wrong: "It rises: the file of `db` cannot be written (disk full, read-only, permissions); " +
			"the log has the error.",
	},
	{
		theme: themeState, read: one(func(r *reading) float64 { return float64(r.IDs) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "remembered_rows",
			Help: "Rows remembered, so that none is handed over twice. About 30 bytes of memory each."},
		wrong: "Near 5 million: `overlap` or `ago` spans too many alerts; see `seen_forgotten_total`.",
	},
	{
		theme: themeState, read: count(func(r *reading) uint64 { return r.Forgotten }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "seen_forgotten_total",
			Help: "Rows forgotten early because more than 5 million would have had to be remembered."},
		wrong: "It rises: these alerts may come twice. A smaller `overlap` or `ago` helps.",
	},
	{
		theme: themePods, read: ofPods(func(p *share.Stats) float64 { return truth(p.Worker) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "worker",
			Help: "1 while this pod holds a Lease and may pull, 0 while it stands by. NaN: db is not kubernetes://."},
		wrong: "0 in all pods: nobody pulls; the log of each says why. A pod that stands by is no trouble.",
	},
	{
		theme: themePods, read: ofPods(func(p *share.Stats) float64 { return float64(p.Owned) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "sources_owned",
			Help: "Sources (tenants with their filters) that this pod pulls. NaN: db is not kubernetes://."},
		wrong: "The sum over all pods is less than there are tenants for minutes: " +
			"some have no owner; the logs name them.",
	},
	{
		theme: themePods, read: ofPods(func(p *share.Stats) float64 { return float64(p.Configured) }),
		Metric: flb.Metric{Kind: flb.Gauge, Name: "sources_configured",
			Help: "Sources that this pod's stanzas have, whichever pod pulls them. NaN: db is not kubernetes://."},
		wrong: "Pods differ for longer than a rollout takes: they have different tenants, " +
			"and what no worker has is pulled by none.",
	},
	{
		theme: themePods, read: countOfPods(func(p *share.Stats) uint64 { return p.Takeovers }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "takeovers_total",
			Help: "Sources taken over from pods that died, froze or were cut off."},
		wrong: "It rises: pods end without saying so; what they delivered in their last `takeover_overlap` came again.",
	},
	{
		theme: themePods, read: countOfPods(func(p *share.Stats) uint64 { return p.Fenced }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "fenced_total",
			Help: "Times this pod stopped delivering because it could not renew its Lease in time."},
		wrong: "It rises: the Kubernetes API is slow or away, or the pod gets no CPU; " +
			"see `lease_renew_failures_total`.",
	},
	{
		theme: themePods, read: countOfPods(func(p *share.Stats) uint64 { return p.RenewFailures }),
		Metric: flb.Metric{Kind: flb.Counter, Name: "lease_renew_failures_total",
			Help: "Renewals of the Lease that failed. Each is tried again in two seconds."},
		wrong: "It rises steadily: look at the Kubernetes API; the log has the error.",
	},
}

// one is a metric of one number.
func one(f func(r *reading) float64) func(*reading, []float64) {
	return func(r *reading, v []float64) { v[0] = f(r) }
}

// ofPods is a metric of a stanza that shares its work: NaN with others.
func ofPods(f func(*share.Stats) float64) func(*reading, []float64) {
	return one(func(r *reading) float64 {
		if r.pods == nil {
			return math.NaN()
		}
		return f(r.pods)
	})
}

// countOfPods is a counter of such a stanza: 0 with others.
func countOfPods(f func(*share.Stats) uint64) func(*reading, []float64) {
	return count(func(r *reading) uint64 {
		if r.pods == nil {
			return 0
		}
		return f(r.pods)
	})
}

func count(f func(r *reading) uint64) func(*reading, []float64) {
	return one(func(r *reading) float64 { return float64(f(r)) })
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
