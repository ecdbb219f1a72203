package conf

import (
	"slices"
	"strings"
	"sync"
)

// alias lists names under which other tools, or the API itself, know what a key of ours is. Each is looked for as
// written, with hyphens, and without separators. Upper and lower case need no mention: Fluent Bit's keys have none.
type alias struct {
	key   string
	names string // separated by blanks
}

var aliases = []alias{
	{"api", "api_name api_type api_version product service"},
	{"tenant_id", "tenant tenant_name tenant_domain azure_tenant_id aad_tenant_id directory directory_id domain"},
	{"tenants_file", "tenants tenant_file tenants_list tenant_list customers customers_file"},
	{"tenant_id_key", "tenant_key tenant_field tenant_id_field tenant_name_key"},
	{"parallel", "parallelism concurrency max_parallel max_concurrency concurrent_requests parallel_requests"},
	{"client_id", "client app_id application_id application azure_client_id aad_client_id username user"},
	{"auth", "auth_type auth_method auth_mode auth_flow authentication grant_type"},
	{"client_secret", "secret client_secret_value secret_value client_key client_password app_secret app_key " +
		"application_secret " +
		"application_key azure_client_secret aad_client_secret password passwd key secret_key"},
	{"client_secret_file", "secret_file app_secret_file password_file"},
	{"client_certificate_file", "client_certificate certificate certificate_file certificate_path cert cert_file " +
		"client_cert " +
		"client_cert_file pfx_file pem_file key_file azure_client_certificate_path"},
	{"client_certificate_password", "certificate_password cert_password client_cert_password pfx_password key_passwd " +
		"azure_client_certificate_password"},
	{"federated_token_file", "federated_token azure_federated_token_file token_file workload_identity_token_file"},
	{"managed_identity_client_id", "managed_identity msi_client_id user_assigned_client_id identity_client_id"},
	{"managed_identity_endpoint", "msi_endpoint imds_endpoint identity_endpoint"},
	{"refresh_token_file", "refresh_token refresh_file"},
	{"cloud", "azure_cloud cloud_name environment azure_environment national_cloud cloud_environment"},
	{"region", "regions location geo geography data_center datacenter"},
	{"url", "endpoint api_url api_endpoint base_url alerts_url alert_url uri address server service_url siem_url " +
		"graph_url graph_endpoint graph_host"},
	{"authority", "authority_host azure_authority_host login_url login_host login_endpoint auth_server issuer"},
	{"token_url", "token_endpoint oauth_url oauth_endpoint oauth_token_url oauth_server auth_url auth_endpoint"},
	{"resource", "scope scopes audience aud resource_id"},
	{"machine_groups", "machine_group_names groups group device_groups device_group rbac_groups rbac_group " +
		"rbac_group_names"},
	{"device_created_machine_tags", "device_tags device_tag machine_tags machine_tag device_machine_tags " +
		"registry_tags registry_tag"},
	{"cloud_created_machine_tags", "cloud_tags cloud_tag cloud_machine_tags"},
	{"filter", "filters odata_filter $filter odata_query odata filter_query filter_expression query where"},
	{"updates", "include_updates update_mode updates_mode first_only only_first only_new new_only"},
	{"limit", "limits max_rows max_results max_alerts max_records page_size batch_limit row_limit top $top odata_top"},
	{"ago", "time_ago since_ago"},
	{"poll_interval", "interval interval_sec interval_secs interval_seconds polling_interval poll_frequency " +
		"polling_frequency frequency poll poll_every pull_interval " +
		"fetch_interval refresh_interval scan_interval interval_nsec schedule period"},
	{"initial_lookback", "lookback look_back initial_interval first_interval initial_window backfill since " +
		"since_time " +
		"since_time_utc start start_time start_date start_from begin from read_from_head"},
	{"overlap", "overlap_window delay ingestion_delay query_delay late_arrival"},
	{"max_window", "window window_size step max_step chunk_interval"},
	{"db", "db_file db_path database database_file state state_file state_path state_db checkpoint checkpoint_file " +
		"cursor_file pos_file position_file registry_file offset_file"},
	{"batch_size", "batch max_batch_size chunk_size buffer_size buf_size buffer_chunk_size max_chunk_size"},
	{"queue_limit", "queue queue_size max_queue queue_max buffer_max_size buf_max_size mem_limit buffer_limit"},
	{"max_alert_size", "alert_size max_record_size max_event_size max_message_size max_row_size"},
	{"connect_timeout", "connection_timeout conn_timeout dial_timeout"},
	{"read_timeout", "timeout http_timeout request_timeout response_timeout client_timeout idle_timeout " +
		"socket_timeout"},
	{"retry_max", "max_retry max_retries retries retry_limit retry_interval retry_wait_max max_backoff " +
		"backoff_max backoff"},
	{"proxy_url", "proxy http_proxy https_proxy proxy_host proxy_server proxy_address"},
	{"ca_file", "ca ca_cert ca_certs ca_certificate ca_bundle cacert ssl_ca_file"},
	{"format", "output_format record_format log_format event_format shape schema mapping normalize"},
	{"keep_native", "keep_original keep_raw preserve_original_event preserve_original include_original include_raw " +
		"add_original"},
	{"time_key", "timestamp_key timestamp_field time_field timestamp date_key"},
	{"event_id_key", "event_id event_id_field id_key id_field alert_id_key dedup_key unique_key _id_key"},
	{"drop_null", "remove_null skip_null omit_null ignore_null strip_null remove_nulls skip_nulls"},
}

// tellers are names of keys whose value is a path, under which the content of the file itself may stand.
var tellers = []string{"refresh_token", "federated_token", "client_certificate", "certificate", "cert", "client_cert",
	"pem_file"}

// stranger lists names of things that no key of ours can do.
type stranger struct {
	names  string
	note   string
	secret bool
}

var strangers = []stranger{
	{"severity severities status service_source classification determination assigned_to", "api graph filters by it, " +
		"written as " +
		"filter severity eq 'high'; the SIEM API cannot, so use a grep filter of Fluent Bit there", false},
	{"category categories", "neither API filters by it; use a grep filter of Fluent Bit", false},
	{"$select $expand $orderby $skip $count $skiptoken $search select expand order_by", "the plugin writes the " +
		"query, and reads every page of every alert " +
		"whole; leave it out", false},
	{"until until_time until_time_utc end end_time end_date stop_time", "pulling has no end, it goes on with what is " +
		"new; leave it out", false},
	{"ssl_verify verify_ssl verify insecure insecure_skip_verify skip_verify", "server certificates are " +
		"always checked; " +
		"add the authority of a private one by ca_file", false},
	{"token access_token bearer_token auth_token api_key api_token assertion", "tokens are fetched by the " +
		"plugin itself; " +
		"give a credential, such as client_secret_file", true},
	{"http_user http_passwd http_password", "the API takes no user and password; give client_id and client_secret_file",
		true},
	{"time_format timestamp_format", "times are ISO 8601 always; leave it out", false},
	{"db_sync db_locking db_journal_mode db.sync db.locking db.journal_mode", "the state file has no such setting; " +
		"leave it out", false},
}

// misspelling is one name that Load asks for and refuses.
type misspelling struct {
	wrong  string
	right  string // empty: no key does that, and note says so
	note   string
	secret bool // its value is not shown
}

// misspellings returns every wrong name once, none of them a key, in a fixed order.
var misspellings = sync.OnceValue(func() []misspelling {
	taken := map[string]bool{}
	for _, k := range Keys {
		taken[k.Name] = true
	}
	var all []misspelling
	add := func(name string, m misspelling) {
		for _, wrong := range separated(name) {
			if !taken[wrong] {
				taken[wrong] = true
				m.wrong = wrong
				all = append(all, m)
			}
		}
	}
	for _, k := range Keys {
		for _, name := range variants(&k) {
			add(name, misspelling{right: k.Name, secret: k.Secret})
		}
	}
	for _, a := range aliases {
		for name := range strings.FieldsSeq(a.names) {
			add(name, misspelling{right: a.key, secret: keyNamed(a.key).Secret || slices.Contains(tellers, name)})
		}
	}
	for _, s := range strangers {
		for name := range strings.FieldsSeq(s.names) {
			add(name, misspelling{note: s.note, secret: s.secret})
		}
	}
	return all
})

// separated gives the ways to write a name of several words.
func separated(name string) []string {
	return slices.Compact([]string{name, strings.ReplaceAll(name, "_", "-"), strings.ReplaceAll(name, "_", "")})
}

// variants gives a key's own name and what its words turn into by habit.
func variants(k *Key) []string {
	names := []string{k.Name}
	swap := func(suffix string, others ...string) {
		if stem, found := strings.CutSuffix(k.Name, suffix); found {
			for _, other := range others {
				names = append(names, stem+other)
			}
		}
	}
	swap("s", "")
	swap("_file", "_path", "_files", "_filename")
	swap("_url", "_uri", "_urls")
	swap("_size", "_bytes", "_size_bytes")
	swap("_timeout", "_timeouts")
	switch k.Type {
	case Duration:
		swap("", "_s", "_sec", "_secs", "_seconds", "_ms", "_minutes")
	case List, Size:
		swap("", "_list", "_kb", "_mb")
	}
	// Fluent Bit turns camelCase of YAML files into snake_case letter by letter: clientID arrives as client_i_d.
	words := strings.Split(k.Name, "_")
	for i, w := range words {
		if i > 0 && (w == "id" || w == "url") {
			words[i] = strings.Join(strings.Split(w, ""), "_")
		}
	}
	return append(names, strings.Join(words, "_"))
}
