// Package conf turns the keys of one defender stanza into a checked Config, or into the list of all that is wrong
// with it, and the text of a tenants_file to one Config for each tenant. It reads no file: whether one is there and
// can be used is said by the room that opens it. Of the environment it asks for four variables only, and only with
// auth workload_identity (Key.Env).
package conf

import (
	"cmp"
	"net/url"
	"slices"
	"time"
)

// Config is a stanza that passed every check, with defaults and presets filled in. It is not changed after Load, so any
// number of goroutines may read it.
type Config struct {
	API string // SIEM or Graph

	TenantsFile string // path; empty: the stanza is one tenant
	Name        string // of a tenant of TenantsFile, for people; may be empty

	// TenantID is a GUID or a domain name, in lower case: one tenant has one spelling, also as part of the state key. A
	// managed identity whose stanza names no tenant has NoTenant here.
	TenantID string

	Credential
	Service
	Selection
	Succession
	Windows
	Storage
	Memory
	Network
	Shape
}

// Credential is who asks for tokens. What follows Auth belongs to one of its values each and is empty with the others.
type Credential struct {
	ClientID string // empty with auth managed_identity
	Auth     string // one of the Auth constants

	ClientSecret              Secret // empty when ClientSecretFile is set
	ClientSecretFile          string
	ClientCertificateFile     string
	ClientCertificatePassword Secret // of a PKCS#12 file; may be empty
	FederatedTokenFile        string
	ManagedIdentityClientID   string // empty: the system-assigned one
	ManagedIdentityEndpoint   string
	RefreshTokenFile          string
}

// Service is where tokens and alerts come from.
type Service struct {
	Cloud     string // "public", "gcc", "gcc_high" or "dod"
	Region    string // "us", "eu" or "uk"; empty beside a url of one's own, outside the public cloud and with api graph
	URL       string // the alerts endpoint, whole, without a query
	Authority string // without a slash at its end
	// TokenURL is {authority}/{tenant}/oauth2/token (api graph: /oauth2/v2.0/token), or the one given; empty with auth
	// managed_identity.
	TokenURL string
	Resource string // what the token is for
}

// Selection is which alerts are asked for.
type Selection struct {
	MachineGroups            []string // as written, without repetitions; empty: all
	DeviceCreatedMachineTags string
	CloudCreatedMachineTags  string
	Filter                   string        // OData, as written; empty: none, and always with api siem
	Updates                  string        // "all" or "first"; empty with api siem
	Limit                    int           // rows a request; 0: none with api siem, 1000 with api graph: the most there
	Ago                      time.Duration // 0: windows; always with api graph
	AgoText                  string        // Ago as written, but weeks become days, for XML Schema has none
}

// Succession is what a stanza of the SIEM API goes on with.
type Succession struct {
	// Successor is this source with the API that it goes on with once its own is gone: all else, the state too, stays
	// the same. Nil: none.
	Successor      *Config
	SuccessorAfter time.Duration // how long every request must have been refused before
	SuccessorAPI   string        // as written; empty with api graph
	SuccessorURL   string        // as written; empty: from Cloud
}

// Windows are the times that alerts are asked for.
type Windows struct {
	PollInterval    time.Duration
	InitialLookback time.Duration
	Overlap         time.Duration
	MaxWindow       time.Duration
}

// Storage is where the state lives, and with whom it is shared.
type Storage struct {
	DB              string // path of the state file, or kubernetes://...; empty: memory
	Kubeconfig      string // this and what follows: see Shared. Path; empty: the pod's service account
	Workers         int
	LeaseDuration   time.Duration
	TakeoverOverlap time.Duration
}

// Memory bounds what is held, in bytes.
type Memory struct {
	BatchSize    int
	QueueLimit   int // at least BatchSize
	MaxAlertSize int // at most BatchSize
}

// Network is how requests reach the service.
type Network struct {
	ConnectTimeout time.Duration
	ReadTimeout    time.Duration
	RetryMax       time.Duration
	Parallel       int    // requests in flight at once, over all tenants of TenantsFile
	ProxyURL       string // empty: as the environment has it
	CAFile         string // empty: the system's roots alone
}

// Shape is what a record looks like.
type Shape struct {
	Format      string // Native, or the shape of the records
	KeepNative  bool   // with another Format than Native only
	TimeKey     string
	EventIDKey  string // empty: no id is added
	TenantIDKey string // empty: TenantID is not added
	DropNull    bool
}

// Load reads a stanza through get, which returns the value of a key, or "" where the stanza has none. Keys are asked
// for in lower case, as Fluent Bit compares them without regard to case. get is also asked for likely wrong
// spellings, because Fluent Bit lets unknown keys pass in silence. With auth workload_identity env, which returns the
// value of a variable, or "", stands in for keys that are absent.
//
// The error is of type Faults and holds every fault in the order of Keys; the Config is nil then. The same stanza
// always gives the same faults, and none of them holds a secret. To a stanza with tenants_file, which is for
// LoadStanza, that is a fault.
func Load(get, env func(name string) string) (*Config, error) {
	s, faults := LoadStanza(get, env)
	switch {
	case len(faults) > 0:
		return nil, faults
	case s.TenantsFile != "":
		return nil, Faults{{"tenants_file", "cannot be used here, where one tenant is asked for"}}
	}
	return s.Config, nil
}

// Source names what a Config pulls: two Configs with one Source would take each other's alerts. It is the key of the
// state, and converts to its type.
type Source struct{ API, Place, Tenant, Filters string }

// Source is what c pulls.
func (c *Config) Source() Source { return Source{c.API, c.Place(), c.TenantID, c.Filters()} }

// Label names the tenant for people: by its name, else by its id.
func (c *Config) Label() string { return cmp.Or(c.Name, c.TenantID) }

// Filters is the canonical form of the filters, and so part of the state key: stanzas that ask for the same rows get
// the same text whatever the order of their lists, any others a different one (names are escaped, so that no two sets
// of them can meet). Upper and lower case differ, because nothing says that the service takes them for the same.
// Empty: no filter.
func (c *Config) Filters() string {
	f := url.Values{}
	if len(c.MachineGroups) > 0 {
		groups := slices.Clone(c.MachineGroups)
		slices.Sort(groups)
		f["machine_groups"] = slices.Compact(groups)
	}
	if c.DeviceCreatedMachineTags != "" {
		f.Set("device_created_machine_tags", c.DeviceCreatedMachineTags)
	}
	if c.CloudCreatedMachineTags != "" {
		f.Set("cloud_created_machine_tags", c.CloudCreatedMachineTags)
	}
	if c.Filter != "" {
		f.Set("filter", c.Filter)
	}
	// The state of one is not that of the other: it holds ids of updates, or of alerts.
	if c.Updates == firstUpdates {
		f.Set("updates", c.Updates)
	}
	return f.Encode()
}

// Warnings says what an operator should know about a stanza that is valid all the same, to be logged once at start.
// None holds a secret.
func (c *Config) Warnings() []string {
	var w []string
	if c.API == SIEM && c.SuccessorAPI != Graph {
		w = append(w, "the SIEM API is deprecated since 2023-12-31 and may be switched off without notice; "+
			"its successor is Microsoft Graph security/alerts_v2, from which api graph pulls; with successor graph "+
			"this stanza goes on with it by itself")
	}
	if c.DB == "" {
		w = append(w, "db is not set: what was pulled is remembered in memory only, so a restart begins "+
			span(c.InitialLookback)+" back (initial_lookback), repeating alerts or missing older ones; set db to the "+
			"path of a state file")
	}
	// Entra ID shows both side by side, and the wrong one yields nothing but AADSTS7000215.
	if IsGUID(c.ClientSecret.Reveal()) {
		w = append(w, "client_secret has the form of a GUID, as the id of a secret has; the token endpoint wants the "+
			"secret's value")
	}
	return w
}

// span writes whole seconds the way the stanza does: 7200 s as 2h.
func span(d time.Duration) string {
	for _, u := range slices.Backward(durationUnits) {
		if d > 0 && u.letter != "" && int64(d)%u.size == 0 {
			return count(int64(d)/u.size) + u.letter
		}
	}
	return count(int64(d/time.Second)) + "s"
}
