package defendersim

import (
	"context"
	"crypto/x509"
	"net/url"
	"slices"
	"sync"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/models"
)

// appStore holds the tenant's applications. It is the library's client store.
type appStore struct {
	mu   sync.Mutex
	apps map[string]*application
}

// application is what the tenant knows of one. Any of its credentials is good.
type application struct {
	secrets    []string
	certs      []*x509.Certificate
	trusts     []Federation
	public     bool     // a native application: it has no credential, people log in with it
	roles      []string // on the SIEM API
	graphRoles []string
}

// Federation is the trust of an application in the tokens of a cluster for one subject and audience.
type Federation struct {
	Cluster           *Cluster
	Subject, Audience string
}

// proven is the secret of a client that proved itself by other means. No request can bring it: client takes it out.
const proven = "\x00"

// app is an application as the library sees it.
type app struct {
	models.Client
	application
}

func (a *app) VerifyPassword(secret string) bool {
	return secret == proven || slices.Contains(a.secrets, secret)
}

// GetByID finds an application.
func (st *appStore) GetByID(_ context.Context, id string) (oauth2.ClientInfo, error) {
	a, ok := st.find(id)
	if !ok {
		return nil, entraRefusal(700016)
	}
	return &app{models.Client{ID: id}, a}, nil
}

func (st *appStore) find(id string) (application, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	a, ok := st.apps[id]
	if !ok {
		return application{}, false
	}
	return *a, true
}

// change makes an application that is new, and removes one that is left without a credential.
func (st *appStore) change(id string, f func(*application)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	a := &application{roles: []string{"Alert.Read.All"}, graphRoles: []string{GraphPermission}}
	if old, ok := st.apps[id]; ok {
		*a = *old // requests under way keep theirs
	}
	f(a)
	if len(a.secrets)+len(a.certs)+len(a.trusts) == 0 && !a.public {
		delete(st.apps, id)
		return
	}
	st.apps[id] = a
}

// SetSecrets gives an application its secrets, all of which are good, and makes it if it is new. An application that
// is left without a credential is removed. Tokens already given stay good.
func (s *Service) SetSecrets(clientID string, secrets ...string) {
	s.apps.change(clientID, func(a *application) { a.secrets = slices.Clone(secrets) })
}

// SetCertificates is SetSecrets for certificates.
func (s *Service) SetCertificates(clientID string, certs ...*x509.Certificate) {
	s.apps.change(clientID, func(a *application) { a.certs = slices.Clone(certs) })
}

// SetFederation is SetSecrets for federated credentials.
func (s *Service) SetFederation(clientID string, trusts ...Federation) {
	s.apps.change(clientID, func(a *application) { a.trusts = slices.Clone(trusts) })
}

// SetNative says whether an application is a native one: people log in with it, by a redirect to http://localhost at
// any port, and it has no credential.
func (s *Service) SetNative(clientID string, native bool) {
	s.apps.change(clientID, func(a *application) { a.public = native })
}

// SetGraphRoles is SetRoles for Graph; a new application has GraphPermission.
func (s *Service) SetGraphRoles(clientID string, roles ...string) {
	s.apps.change(clientID, func(a *application) { a.graphRoles = slices.Clone(roles) })
}

// SetRoles gives a known application its roles on the SIEM API; a new one has Alert.Read.All.
func (s *Service) SetRoles(clientID string, roles ...string) {
	s.apps.change(clientID, func(a *application) { a.roles = slices.Clone(roles) })
}

// redirects tells whether an application may be led back to an address: Entra ID does not look at the port of
// localhost.
func (a application) redirects(text string) bool {
	u, err := url.Parse(text)
	return err == nil && a.public && u.Scheme == "http" && u.Hostname() == "localhost" &&
		(u.Path == "" || u.Path == "/") && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// checkRedirect is the library's check; the exchange has made a better one by then.
func checkRedirect(_, redirect string) error {
	if redirect == "" {
		return errors.ErrInvalidRedirectURI
	}
	return nil
}
