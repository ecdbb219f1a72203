package defendersim

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Fleet is many tenants behind one address each for logins and alerts, as all of a cloud are: a request for a token
// says its tenant in the path, a query by its token. Each tenant is a Service with modes, faults and alerts of its
// own. One application, that of the Config, is known in all of them, unless a tenant refuses it. A tenant that the
// Fleet does not have is in no directory of this cloud: another cloud is another Fleet. All methods may be called
// from anywhere at any time. A tenant costs 3 KB beside its alerts and tokens.
type Fleet struct {
	cfg Config
	// nobody answers what no tenant is named for.
	nobody *Service

	mu      sync.RWMutex
	tenants map[string]*Service
}

// NewFleet makes a Fleet without tenants. Config.Tenant has no meaning.
func NewFleet(cfg Config) *Fleet {
	cfg.Tenant = "nobody" // no request has it: a GUID or a domain name has more
	f := &Fleet{cfg: cfg, tenants: map[string]*Service{}}
	f.nobody = New(cfg)
	return f
}

// Tenant returns a tenant, which is made when it is new.
func (f *Fleet) Tenant(id string) *Service {
	id = strings.ToLower(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.tenants[id]
	if s == nil {
		cfg := f.cfg
		cfg.Tenant = id
		cfg.Seed += uint64(len(f.tenants)) + 1
		s = New(cfg)
		f.tenants[id] = s
	}
	return s
}

// Remove takes a tenant out of the directory.
func (f *Fleet) Remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tenants, strings.ToLower(id))
}

// Tenants lists the tenants' ids.
func (f *Fleet) Tenants() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	ids := make([]string, 0, len(f.tenants))
	for id := range f.tenants {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Consent says whether the tenant's administrator has admitted the application; a new tenant's has. Tokens already
// given stay good.
func (s *Service) Consent(given bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = !given
}

// StartFleet is Start for a Fleet.
func StartFleet(f *Fleet, o ServerOptions) (*Server, error) { return start(f.serve, "", o) }

// Transport is Service.Transport for a Fleet.
func (f *Fleet) Transport() http.RoundTripper { return wire{f} }

// ServeHTTP answers at every endpoint, whatever the host.
func (f *Fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.serve(w, r) }

func (f *Fleet) serve(w http.ResponseWriter, r *http.Request, kinds ...Kind) {
	_, tenant, _ := route(r.URL.Path)
	if tenant == "" {
		tenant = tokenTenant(r.Header.Get("Authorization"))
	}
	f.mu.RLock()
	s := f.tenants[strings.ToLower(tenant)]
	f.mu.RUnlock()
	if s == nil {
		s = f.nobody
	}
	s.serve(w, r, kinds...)
}

// tokenTenant is the tenant that a token says it is of; its Service looks whether that is so.
func tokenTenant(authorization string) string {
	parts := strings.Split(authorization, ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	// Each request comes here, and the tokens are the Fleet's own: their form is known.
	_, tenant, _ := strings.Cut(string(text), `"tid":"`)
	tenant, _, _ = strings.Cut(tenant, `"`)
	return tenant
}
