package conf

const oneTag = "one tag of 1 to 256 printable characters, without a comma"

// pullKeys say which alerts are pulled, when, and what becomes of them.
var pullKeys = []Key{
	{
		Name: "machine_groups", PerTenant: true, Theme: themeWhich, Type: List, Absent: "all", API: SIEM,
		Why:   "cannot filter by machine groups (an alert names them in its evidence, as rbacGroupName)",
		Help:  "Only alerts of these machine groups. A name with a comma in it cannot be given.",
		field: func(c *Config) any { return &c.MachineGroups },
	},
	{
		Name: "device_created_machine_tags", PerTenant: true, Theme: themeWhich, Type: Text, Absent: "any", API: SIEM,
		Allowed: oneTag,
		Why:     "cannot filter by machine tags (an alert names them in its evidence, as tags)",
		Help:    "Only alerts of machines with this tag in their registry.",
		clean:   cleanTag, field: func(c *Config) any { return &c.DeviceCreatedMachineTags },
	},
	{
		Name: "cloud_created_machine_tags", PerTenant: true, Theme: themeWhich, Type: Text, Absent: "any", API: SIEM,
		Allowed: oneTag,
		Why:     "cannot filter by machine tags (an alert names them in its evidence, as tags)",
		Help:    "Only alerts of machines with this tag in Defender.",
		clean:   cleanTag, field: func(c *Config) any { return &c.CloudCreatedMachineTags },
	},
	{
		Name: "filter", PerTenant: true, Succeeds: true, Theme: themeWhich, Type: Expression, Absent: "none",
		API: Graph,
		Allowed: "an OData expression such as severity eq 'high', its quotes and parentheses in pairs, " +
			count(maxFilter) + " bytes at most",
		Why: "takes no expression (it has machine_groups and machine tags; for the rest use a grep filter of " +
			"Fluent Bit)",
		Help: "Only alerts for which this holds. It is sent as `(filter) and ...`; text stands in single quotes, a " +
			"quote in it is doubled.",
		field: func(c *Config) any { return &c.Filter },
	},
	{
		Name: "updates", PerTenant: true, Succeeds: true, Theme: themeWhich, Type: Choice, Default: allUpdates,
		Values: []string{allUpdates, firstUpdates}, API: Graph,
		Why:   "has no updates: each of its rows is a detection of its own",
		Help:  "`all`: each update of an alert is a record. `first`: only an alert's first sight is.",
		field: func(c *Config) any { return &c.Updates },
	},
	{
		Name: "limit", PerTenant: true, Theme: themeWhich, Type: Integer, Absent: "none", Min: "1", Max: "1000000000",
		Help: "Most rows of one request. Spans of time are split until no row can hide behind it. With `api graph` " +
			"the rows of a page, 1000 at most and by default.",
		field: func(c *Config) any { return &c.Limit },
	},
	{
		Name: "ago", Theme: themeWhich, Type: Span, Absent: "none", Min: "PT1S", Max: "P366D", API: SIEM,
		Why:   "is asked for windows of time alone (max_window)",
		Help:  "Each poll asks for this span back from now, instead of going on from where the last one ended.",
		field: func(c *Config) any { return spanField{&c.Ago, &c.AgoText} },
	},

	{
		Name: "poll_interval", Theme: themeWhen, Type: Duration, Default: "60s", Min: "1s", Max: "1d",
		Help:  "Time between polls. The first comes at once, the following with 10 % jitter.",
		field: func(c *Config) any { return &c.PollInterval },
	},
	{
		Name: "initial_lookback", Theme: themeWhen, Type: Duration, Default: "2h", Min: "1s", Max: tenYears,
		Help:  "How far back a stanza without state begins.",
		field: func(c *Config) any { return &c.InitialLookback },
	},
	{
		Name: "overlap", Theme: themeWhen, Type: Duration, Default: "15m", Min: "10s", Max: "30d",
		Help: "How late a row may become visible and still be found: this much is asked again, and what was seen " +
			"is dropped.",
		field: func(c *Config) any { return &c.Overlap },
	},
	{
		Name: "max_window", Theme: themeWhen, Type: Duration, Default: "1h", Min: "1m", Max: tenYears,
		Help:  "Longest span of one request. A backlog is pulled oldest first in steps of this size.",
		field: func(c *Config) any { return &c.MaxWindow },
	},

	{
		Name: "db", Theme: themeState, Type: File, Absent: "memory, with a warning",
		Allowed: "the path of a file, or kubernetes://NAME or kubernetes://NAMESPACE/NAME with a NAME of at most " +
			count(sharedNameMost) + " lower-case letters, digits and '-'",
		Help: "The state file. Stanzas may share one; a relative path starts at Fluent Bit's working directory. " +
			"`kubernetes://NAME` keeps the state in the Kubernetes API, " +
			"where pods share the work: see Pods that share.",
		clean: cleanDB, field: func(c *Config) any { return &c.DB },
	},
	{
		Name: "kubeconfig", Theme: themeState, Type: File, Absent: "the pod's service account",
		Help:  "With `db kubernetes://`: a kubeconfig file, whose current context says how to reach the API.",
		field: func(c *Config) any { return &c.Kubeconfig },
	},
	{
		Name: "workers", Theme: themeState, Type: Integer, Default: "3", Min: "1", Max: "100",
		Help:  "With `db kubernetes://`: the most pods that pull at the same time. The others stand by.",
		field: func(c *Config) any { return &c.Workers },
	},
	{
		Name: "lease_duration", Theme: themeState, Type: Duration, Default: "15s", Min: "5s", Max: "5m",
		Help: "With `db kubernetes://`: a worker that did not renew its Lease for this long counts as dead. All " +
			"pods need the same.",
		field: func(c *Config) any { return &c.LeaseDuration },
	},
	{
		Name: "takeover_overlap", Theme: themeState, Type: Duration, Default: "1m", Min: "0s", Max: "1h",
		Help: "With `db kubernetes://`: after a worker died, what it delivered in its last time of this length " +
			"comes again, for its node may have died with Fluent Bit's buffers.",
		field: func(c *Config) any { return &c.TakeoverOverlap },
	},

	{
		Name: "batch_size", Theme: themeSize, Type: Size, Default: "1M", Min: "1k", Max: "16M",
		Help: "Most bytes handed to Fluent Bit at once, about once a second. Fluent Bit never splits them. (With a " +
			"`format` other than `native` one record " +
			"may have more: four times `max_alert_size`.)",
		field: func(c *Config) any { return &c.BatchSize },
	},
	{
		Name: "queue_limit", Theme: themeSize, Type: Size, Default: "8M", Min: "1k", Max: "1G",
		Help:  "Most bytes fetched and not yet taken by Fluent Bit. Beyond it the download waits.",
		field: func(c *Config) any { return &c.QueueLimit },
	},
	{
		Name: "max_alert_size", Theme: themeSize, Type: Size, Default: "1M", Min: "1k", Max: "16M",
		Help:  "A larger alert is delivered raw, cut, and marked.",
		field: func(c *Config) any { return &c.MaxAlertSize },
	},

	{
		Name: "connect_timeout", Theme: themeNetwork, Type: Duration, Default: "10s", Min: "1s", Max: "10m",
		Help:  "Longest time to make a connection.",
		field: func(c *Config) any { return &c.ConnectTimeout },
	},
	{
		Name: "read_timeout", Theme: themeNetwork, Type: Duration, Default: "60s", Min: "1s", Max: "1h",
		Help:  "Longest silence on the wire while more is wanted; a whole answer may take any time.",
		field: func(c *Config) any { return &c.ReadTimeout },
	},
	{
		Name: "retry_max", Theme: themeNetwork, Type: Duration, Default: "5m", Min: "1s", Max: "1d",
		Help:  "Longest pause between attempts while the service fails.",
		field: func(c *Config) any { return &c.RetryMax },
	},
	{
		Name: "proxy_url", Theme: themeNetwork, Type: URL, Absent: "as `HTTPS_PROXY` and `NO_PROXY` say",
		Allowed: "http://HOST:PORT, https or socks5, without user and password (give those by HTTPS_PROXY in the " +
			"environment)",
		Help: "The proxy for tokens and alerts.", address: address{plain: true, proxy: true},
		field: func(c *Config) any { return &c.ProxyURL },
	},
	{
		Name: "parallel", Theme: themeNetwork, Type: Integer, Default: "8", Min: "1", Max: "64",
		Help: "With `tenants_file` the requests in flight at once, over all its tenants. Tenants that are slow get " +
			"all of them but one; " +
			"with `1` one that hangs holds up the others until `read_timeout`.",
		field: func(c *Config) any { return &c.Parallel },
	},
	{
		Name: "ca_file", Theme: themeNetwork, Type: File, Absent: "none",
		Help:  "Certificate authorities (PEM) to trust beside the system's. Server certificates are always checked.",
		field: func(c *Config) any { return &c.CAFile },
	},

	{
		Name: "format", Theme: themeRecord, Type: Choice, Default: Native, Values: []string{Native, ECS, OCSF, CEF},
		Help: "The shape of the records: `native` has Microsoft's fields as they come, `ecs` those of the Elastic " +
			"Common Schema, `ocsf` those of a " +
			"Detection Finding of the Open Cybersecurity Schema Framework, `cef` one line of the Common Event Format " +
			"in `message`; see [shapes.md](shapes.md).",
		field: func(c *Config) any { return &c.Format },
	},
	{
		Name: "keep_native", Theme: themeRecord, Type: Boolean, Default: "off",
		Help: "With a `format` other than `native`: adds the whole native alert, as JSON text in `event.original` " +
			"(`ecs`) or `raw_data` (`ocsf`), or as an object in `native` (`cef`).",
		field: func(c *Config) any { return &c.KeepNative },
	},
	{
		Name: "time_key", Theme: themeRecord, Type: Text, Default: "AlertTime", OfGraph: "createdDateTime",
		Help: "The alert's field that gives the record's time. Unreadable, before 1970 or after 2106: the time " +
			"of the pull.",
		field: func(c *Config) any { return &c.TimeKey },
	},
	{
		Name: "event_id_key", Theme: themeRecord, Type: Text, Absent: "none",
		Help: "Adds the alert's id, the same at every pull, under this name: for outputs that can drop " +
			"repetitions by it.",
		field: func(c *Config) any { return &c.EventIDKey },
	},
	{
		Name: "tenant_id_key", Theme: themeRecord, Type: Text, Absent: "none; `TenantId` with `tenants_file`, `api " +
			"siem` and `format native`",
		Help: "Adds the tenant's id, as `tenant_id` has it, to each record under this name. (An alert of Graph has " +
			"its `tenantId`, and the formats other than `native` have a place of their own for it.)",
		field: func(c *Config) any { return &c.TenantIDKey },
	},
	{
		Name: "drop_null", Theme: themeRecord, Type: Boolean, Default: "off",
		Help: "Leaves out fields that are null. (In another `format` than `native` those with a place of their own " +
			"are left out always.)",
		field: func(c *Config) any { return &c.DropNull },
	},
}
