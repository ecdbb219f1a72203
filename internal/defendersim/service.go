// Package defendersim is a simulated Microsoft side for tests and demos: Entra ID's v1 and v2 endpoints for tokens
// and logins, the metadata service of a machine with managed identities, the SIEM API of Defender and its successor
// in Microsoft Graph. What is documented behaves as documented, what is undocumented is a mode (Modes), what can go
// wrong is a fault on demand (Fault).
//
// A Service is the model. Service.Transport reaches it over an in-memory wire, fit for testing/synctest; a Server
// puts it behind TLS on loopback. The package knows nothing of the plugin.
package defendersim

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-oauth2/oauth2/v4/server"
)

// Names that a Service takes when its Config leaves them empty; tenant and client are those of the seed's example.
const (
	DefaultTenant   = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	DefaultClientID = "35e0f735-5fe4-4693-9e68-3de80f1d3745"
	DefaultSecret   = "IKXc6PxB2eoFNJ/IT+l2JZZD9d9032VXz6Ul3D2WyUQ="
	DefaultResource = "https://graph.windows.net"
	// PortalResource is the audience of applications that were not made through the portal.
	PortalResource = "https://WDATPAlertExport.Seville.onmicrosoft.com"
)

// Hosts for URLs over the in-memory wire; the wire accepts any host, these are the real ones.
const (
	LoginHost  = "https://login.microsoftonline.com"
	AlertsHost = "https://wdatp-alertexporter-us.windows.com"
	GraphHost  = "https://graph.microsoft.com"
	// IdentityURL is where a machine asks for tokens of its managed identities.
	IdentityURL = "http://169.254.169.254/metadata/identity/oauth2/token"
)

// Config is what a Service is made from. The zero value works.
type Config struct {
	// Now is the service's clock; nil: time.Now, which is the bubble's clock under testing/synctest. Only instants come
	// from it: delays (Fault.Delay, Fault.Rate, Modes.StallCut) are lived in the process's own time.
	Now func() time.Time
	// Seed decides all that is random. The same requests in the same order get the same answers.
	Seed uint64
	// Tenant, ClientID and ClientSecret are the one tenant and its first application.
	Tenant, ClientID, ClientSecret string
	// Audiences are the resources whose tokens the SIEM API accepts; nil: the two of Microsoft's pages. Resources are
	// further ones the tenant gives tokens for; nil: the Defender API.
	Audiences, Resources []string
	// GraphAudiences are the resources whose tokens Graph accepts; nil: its hosts and its application id.
	GraphAudiences []string
	// User is who logs in on the page; "": an analyst. Scopes and GraphScopes are what a login may do; nil: Alert.Read
	// and GraphPermission.
	User                string
	Scopes, GraphScopes []string
	// TokenLife is how long a token lives; 0: 3599 s.
	TokenLife time.Duration
	// Retain forgets rows, ledger included, that became visible longer ago than this; 0: never. A soak needs it.
	Retain time.Duration
	// JournalSize is how many exchanges Journal remembers; 0: 10,000.
	JournalSize int
	// Modes are the modes at the start.
	Modes Modes
}

// Service is the simulated service. All methods may be called from anywhere at any time. It has no goroutines.
type Service struct {
	cfg        Config
	oauth      *server.Server
	issuer     *issuer
	tokens     *tokenStore
	apps       *appStore
	assertions assertionIDs

	mu     sync.Mutex
	shift  time.Duration
	modes  Modes
	life   time.Duration
	rows   rowStore
	graph  graphStore
	recent []time.Time // Graph's requests of the last minute
	queue  map[Kind][]*Fault
	hook   func(Request) *Fault
	spans  []span
	system string   // the system-assigned identity's client id
	users  []string // those of user-assigned ones

	machine Machine
	serial  int
	stats   Stats

	refused bool    // the application is not admitted
	log     []Entry // a ring once it is full
	logAt   int
}

// New makes a Service without rows.
func New(cfg Config) *Service {
	def := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	def(&cfg.Tenant, DefaultTenant)
	def(&cfg.ClientID, DefaultClientID)
	def(&cfg.ClientSecret, DefaultSecret)
	def(&cfg.User, "analyst@contoso.example")
	if cfg.Scopes == nil {
		cfg.Scopes = []string{"Alert.Read"}
	}
	if cfg.GraphScopes == nil {
		cfg.GraphScopes = []string{GraphPermission}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = 3599 * time.Second
	}
	if cfg.Audiences == nil {
		cfg.Audiences = []string{DefaultResource, PortalResource}
	}
	if cfg.Resources == nil {
		cfg.Resources = []string{"https://api.securitycenter.microsoft.com"}
	}
	if cfg.GraphAudiences == nil {
		cfg.GraphAudiences = []string{
			GraphHost, "https://graph.microsoft.us", "https://dod-graph.microsoft.us", GraphAppID,
		}
	}
	if cfg.JournalSize == 0 {
		cfg.JournalSize = 10_000
	}
	s := &Service{
		cfg:   cfg,
		modes: cfg.Modes,
		life:  cfg.TokenLife,
		queue: make(map[Kind][]*Fault),
		apps:  &appStore{apps: make(map[string]*application)},
	}
	s.tokens = newTokenStore(s)
	s.issuer = newIssuer(s)
	s.SetSecrets(cfg.ClientID, cfg.ClientSecret)
	s.rows.byKey = make(map[string]*Row)
	s.graph = newGraphStore()
	s.stats.Status = make(map[int]int)
	s.stats.Faults = make(map[string]int)
	s.oauth = s.newOAuth()
	return s
}

// Now is the service's time, jumps included.
func (s *Service) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *Service) now() time.Time { return s.cfg.Now().Add(s.shift).UTC() }

// Shift makes the service's clock jump by d, and with it Dates, visibility and token life. For Dates that jump while
// the clock does not, set Modes.DateOffset.
func (s *Service) Shift(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shift += d
}

// SetModes changes modes; requests that already run keep theirs.
func (s *Service) SetModes(change func(*Modes)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.modes)
}

// Modes returns the modes in force.
func (s *Service) Modes() Modes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.modes
}

// Kind tells the endpoints apart.
type Kind string

// The kinds of requests. More APIs add more kinds.
const (
	KindToken     Kind = "token"
	KindAlerts    Kind = "alerts"    // of the SIEM API
	KindGraph     Kind = "graph"     // alerts of Microsoft Graph
	KindAuthorize Kind = "authorize" // the page of a login
	KindIdentity  Kind = "identity"  // tokens of managed identities
	KindOther     Kind = "other"     // no such address: 404
)

// Request is what a fault hook and the journal see of a request. It holds no credentials.
type Request struct {
	N       int       // 1 for the first request of the service's life
	Kind    Kind      //
	Version int       // of the endpoints for tokens and logins: 1 or 2
	At      time.Time // service time when it came
	Method  string    //
	Host    string    //
	Path    string    //
	// Query is that of a SIEM request as understood; the zero Query when malformed. Of a Graph request it holds the
	// window (until its own time where the filter sets no end) and $top as Limit.
	Query   Query
	Graph   GraphQuery // of a Graph request
	tenant  string     // of a request for a token or a login
	badness error      // why Query, or the form of a token request, is malformed
}

// ServeHTTP answers at every endpoint, whatever the host.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r) }

// serve answers a request; with kinds given, others are not found (a real login host serves no alerts).
func (s *Service) serve(w http.ResponseWriter, r *http.Request, kinds ...Kind) {
	x := s.begin(w, r, kinds)
	defer x.end()
	if !x.early() {
		return
	}
	switch x.req.Kind {
	case KindToken:
		x.serveToken()
	case KindAlerts:
		x.serveAlerts()
	case KindGraph:
		x.serveGraph()
	case KindAuthorize:
		x.serveAuthorize()
	case KindIdentity:
		x.serveIdentity()
	default:
		x.message(http.StatusNotFound, "No HTTP resource was found that matches the request URI.")
	}
}

// route finds the endpoint of a path. The APIs' paths are case-insensitive; the seed's code example asks for its
// singular, its other examples for the plural.
func route(path string) (kind Kind, tenant string, version int) {
	p := strings.TrimSuffix(path, "/")
	switch strings.ToLower(p) {
	case "/api/alerts", "/api/alert":
		return KindAlerts, "", 0
	case "/v1.0/security/alerts_v2":
		return KindGraph, "", 0
	case "/metadata/identity/oauth2/token":
		return KindIdentity, "", 0
	}
	parts := strings.Split(strings.TrimPrefix(p, "/"), "/")
	switch {
	case len(parts) == 3 && parts[1] == "oauth2":
		version = 1
	case len(parts) == 4 && parts[1] == "oauth2" && parts[2] == "v2.0":
		version = 2
	default:
		return KindOther, "", 0
	}
	switch parts[len(parts)-1] {
	case "token":
		return KindToken, parts[0], version
	case "authorize":
		return KindAuthorize, parts[0], version
	}
	return KindOther, "", 0
}

func (s *Service) begin(w http.ResponseWriter, r *http.Request, kinds []Kind) *exchange {
	kind, tenant, version := route(r.URL.Path)
	if len(kinds) > 0 && !slices.Contains(kinds, kind) {
		kind = KindOther
	}
	req := Request{Kind: kind, Version: version, Method: r.Method, Host: r.Host, Path: r.URL.Path, tenant: tenant}

	if kind == KindToken || kind == KindAuthorize {
		// Before any fault: net/http notices that a client is gone only once the body was read.
		r.Body = http.MaxBytesReader(nil, r.Body, 1<<20)
		req.badness = r.ParseForm()
	}
	s.mu.Lock()
	req.At = s.now()
	s.serial++
	req.N = s.serial
	modes := s.modes
	if kind == KindAlerts {
		req.Query, req.badness = ParseQuery(r.URL.RawQuery, req.At)
	}
	if kind == KindGraph {
		s.understand(&req, r.URL.RawQuery)
	}
	var fault *Fault
	if q := s.queue[kind]; len(q) > 0 {
		fault, s.queue[kind] = q[0], q[1:]
	}
	hook := s.hook
	s.stats.begin(req, r)
	s.mu.Unlock()

	if fault == nil && hook != nil {
		fault = hook(req) // without the lock: a hook may call the service
	}
	x := &exchange{s: s, w: w, r: r, req: req, modes: modes, fault: fault}
	x.entry.Request = req
	return x
}

// rand is the request's own source: a later request is random in the same way whatever this one used.
func (x *exchange) rand() *rand.Rand {
	if x.rnd == nil {
		x.rnd = rand.New(rand.NewPCG(x.s.cfg.Seed, uint64(x.req.N)))
	}
	return x.rnd
}
